"""Half an hour of everything at once: whether any request fails, and whether memory stays flat.

    PYTHONPATH=tests python tests/benchmarks/soak.py --out tests/benchmarks/results/soak.md

Clients of three public names ask in every way, each one request after the other; some leave in the middle. Meanwhile an
administrator swaps, rolls back, adds and removes modules. The server is a process of its own, on random tiny models.
Exits with 1 when anything failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

import tiny
from kit import Kit, build_kit
from lethe_offsets.create import create_module
from lethe_offsets.module import Module
from lethe_server.bench.machine import listed
from lethe_server.bench.memory import host_mib
from server_process import ADMIN_KEY, LITTLE_CACHED, Server, serving

MODULES = 8
PLACES, SLOTS = 10, 4  # three routes name up to nine modules, and merged ones and new ones come and go
ROUTES = ("first", "second", "org/third")
PROMPTS = ("Where was Marta Lindqvist born?", "The capital of France", "One, two, three", "A forget module says")
TOKENS = 48
PAUSE_S = 1.0  # between changes
SAMPLE_S = 5.0
WARM_UP = 1 / 6  # share of the time
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
TEXT, CHAT, RESPONSES = "/v1/completions", "/v1/chat/completions", "/v1/responses"
LEFT, REFUSED = "stream, left in the middle", "refused"
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "completion": (TEXT, {}),
    "completion, streamed": (TEXT, STREAM),
    "chat": (CHAT, {}),
    "chat, streamed": (CHAT, STREAM),
    "response": (RESPONSES, {}),
    "log-probabilities": (TEXT, {"logprobs": 5}),
    "log-probabilities, streamed": (CHAT, {"logprobs": True, "top_logprobs": 5, **STREAM}),
    "log-probabilities of the prompt": (TEXT, {"prompt_logprobs": 5}),
    "several choices": (TEXT, {"n": 3, "temperature": 1.0}),
    LEFT: (TEXT, STREAM),
    REFUSED: (TEXT, {"model": "nobody's"}),
}
CHANGES = ("swap", "canary", "shadow", "merge", "rollback", "module removed and added")


def body_of(kind: str, draw: random.Random) -> tuple[str, dict[str, Any]]:
    path, special = ASKS[kind]
    prompt, shape = draw.choice(PROMPTS), {"temperature": 0.0, "ignore_eos": True}
    asked: dict[str, Any] = {"prompt": prompt, "max_tokens": TOKENS, **shape}
    if path == CHAT:
        asked = {"messages": [{"role": "user", "content": prompt}], "max_tokens": TOKENS, **shape}
    elif path == RESPONSES:
        asked = {"input": prompt, "max_output_tokens": TOKENS, "temperature": 0.0}
    return path, {"model": draw.choice(ROUTES), **asked, **special}


@dataclass
class Tally:
    """asked, changed, declined: by kind. failures: by kind and what happened.

    samples: seconds, MiB, open files, threads.
    """

    asked: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    declined: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    samples: list[tuple[float, float, int, int]] = field(default_factory=list)


class Client:
    """Asks until it is cancelled; a request under way is brought to its end first."""

    def __init__(self, http: httpx.AsyncClient, tally: Tally, seed: int) -> None:
        self._http = http
        self._tally = tally
        self._draw = random.Random(seed)
        self.done = False

    async def work(self) -> None:
        while not self.done:
            kind = self._draw.choice(list(ASKS))
            try:
                failure = await self._ask(kind)
            except (httpx.HTTPError, ValueError, KeyError) as err:
                failure = f"{type(err).__name__}: {err}"[:120]
            self._tally.asked[kind] += 1
            if failure:
                self._tally.failures[f"{kind}: {failure}"] += 1

    async def _ask(self, kind: str) -> str | None:
        """What was wrong with the answer."""
        path, body = body_of(kind, self._draw)
        if body.get("stream"):
            return await self._stream(path, body, self._draw.randrange(TOKENS) if kind == LEFT else None)
        response = await self._http.post(path, json=body)
        if kind == REFUSED:
            return None if response.status_code == 404 else f"status {response.status_code}"
        if response.status_code != 200:
            return f"status {response.status_code}: {response.text[:80]}"
        return self._count(response.json()["usage"], body)

    async def _stream(self, path: str, body: dict[str, Any], leaves_after: int | None) -> str | None:
        events: list[Any] = []
        async with self._http.stream("POST", path, json=body) as response:
            if response.status_code != 200:
                return f"status {response.status_code}"
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    events.append(json.loads(line.removeprefix("data: ")))
                    if "error" in events[-1]:
                        return f"error event: {events[-1]['error']['message'][:80]}"
                if len(events) == leaves_after:
                    self._tally.tokens += len(events)
                    return None
        return self._count(events[-1]["usage"], body)

    def _count(self, usage: Any, body: dict[str, Any]) -> str | None:
        tokens = usage.get("completion_tokens", usage.get("output_tokens"))
        self._tally.tokens += tokens
        expected = TOKENS * body.get("n", 1)
        return None if tokens == expected or "input" in body else f"{tokens} of {expected} tokens"


class Administrator:
    def __init__(self, http: httpx.AsyncClient, tally: Tally, modules: list[Module]) -> None:
        self._http = http
        self._tally = tally
        self._modules = modules
        self._draw = random.Random(0)
        self.done = False

    async def work(self) -> None:
        while not self.done:
            kind = self._draw.choice(CHANGES)
            if kind == CHANGES[-1]:
                await self._renew(kind)
            elif kind == "rollback":
                await self._change(kind, "POST", f"/admin/routes/{self._draw.choice(ROUTES)}/rollback")
            else:
                await self._change(kind, "PUT", f"/admin/routes/{self._draw.choice(ROUTES)}", json=self._target(kind))
            await asyncio.sleep(PAUSE_S)

    def _target(self, kind: str) -> dict[str, Any]:
        one, two = (module.ref for module in self._draw.sample(self._modules, 2))
        if kind == "canary":
            return {"targets": [{"module": one, "weight": 90}, {"module": two, "weight": 10}]}
        if kind == "shadow":
            return {"module": one, "shadow": {"module": two, "share": 0.5}}
        return {"modules": [one, two]} if kind == "merge" else {"module": one}

    async def _renew(self, kind: str) -> None:
        module = self._draw.choice(self._modules)
        if await self._change(kind, "DELETE", f"/admin/modules/{module.ref}"):
            await self._change("module added again", "POST", "/admin/modules", json={"source": str(module.path)})

    async def _change(self, kind: str, method: str, path: str, **options: Any) -> bool:
        """Whether it was made. 400 and 409 say that it can't be now: nothing to go back to, a module in use."""
        try:
            response = await self._http.request(method, path, **options)
        except httpx.HTTPError as err:
            self._tally.failures[f"{kind}: {type(err).__name__}"] += 1
            return False
        if response.is_success:
            self._tally.changed[kind] += 1
        elif response.status_code in (400, 409):
            self._tally.declined[kind] += 1
        else:
            self._tally.failures[f"{kind}: status {response.status_code}: {response.text[:120]}"] += 1
        return response.is_success


async def sample(server: Server, tally: Tally) -> None:
    began, root = time.monotonic(), psutil.Process(server.process.pid)
    while True:
        tree = [root, *server.processes()]
        files, threads = sum(each.num_fds() for each in tree), sum(each.num_threads() for each in tree)
        held = await asyncio.to_thread(host_mib, root.pid)
        tally.samples.append((time.monotonic() - began, held, files, threads))
        await asyncio.sleep(SAMPLE_S)


async def run(server: Server, modules: list[Module], minutes: float, num_clients: int) -> Tally:
    tally, headers = Tally(), {"Authorization": f"Bearer {ADMIN_KEY}"}
    # Nothing is kept open: the server may close an idle connection just when the next request is on its way.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=120, limits=limits) as http:
        working = [Client(http, tally, seed) for seed in range(num_clients)]
        busy: list[Client | Administrator] = [*working, Administrator(http, tally, modules)]
        tasks = [asyncio.create_task(each.work()) for each in busy]
        sampling = asyncio.create_task(sample(server, tally))
        await asyncio.wait([*tasks, sampling], timeout=60 * minutes, return_when=asyncio.FIRST_EXCEPTION)
        sampling.cancel()
        for each in busy:
            each.done = True
        await asyncio.gather(*tasks)
        await check_the_end(server, http, tally)
    return tally


async def check_the_end(server: Server, http: httpx.AsyncClient, tally: Tally) -> None:
    """Nothing is left in flight, no request has ended with an error, nothing was logged that failed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        lines = (await http.get("/metrics")).text.splitlines()
        if all(line.endswith(" 0.0") for line in lines if line.startswith("lethe_inflight_requests{")):
            break
        await asyncio.sleep(0.5)
    else:
        tally.failures["requests are still in flight"] += 1
    errors = sum(float(line.rpartition(" ")[2]) for line in lines if 'outcome="error"' in line)
    tally.failures["requests that ended with an error"] += round(errors)
    tally.failures["stack traces in the log"] += server.log.read_text(errors="replace").count("Traceback")
    tally.failures = +tally.failures


def report(tally: Tally, minutes: float, num_clients: int) -> str:
    lines = [f"# {minutes:g} minutes of everything at once", ""]
    lines += listed()
    lines += ["", "    PYTHONPATH=tests python tests/benchmarks/soak.py --out tests/benchmarks/results/soak.md", ""]
    lines += [f"{num_clients} clients, {tally.tokens} tokens generated. The server's environment: {variables()}.", ""]
    lines += ["| asked | requests |", "|---|---:|", *(f"| {kind} | {tally.asked[kind]} |" for kind in ASKS), ""]
    lines += ["| change | made | declined |", "|---|---:|---:|"]
    lines += [
        f"| {kind} | {tally.changed[kind]} | {tally.declined[kind]} |" for kind in (*CHANGES, "module added again")
    ]
    lines += ["", "| after warm-up | at first | at last | most | slope, per hour |", "|---|---:|---:|---:|---:|"]
    steady = [each for each in tally.samples if each[0] >= WARM_UP * 60 * minutes]
    hours = [each[0] / 3600 for each in steady]
    for name, column in (("memory, MiB", 1), ("open files", 2), ("threads", 3)):
        values = [each[column] for each in steady]
        slope = statistics.linear_regression(hours, values).slope
        lines.append(f"| {name} | {values[0]:.0f} | {values[-1]:.0f} | {max(values):.0f} | {slope:+.1f} |")
    lines += ["", "Memory is the proportional set size of the server and all its processes."]
    lines += ["", *(f"- {number} times: {what}" for what, number in tally.failures.most_common())]
    return "\n".join(lines) + ("" if tally.failures else "Nothing failed.") + "\n"


def variables() -> str:
    return ", ".join(f"`{name}={value}`" for name, value in LITTLE_CACHED.items())


def build_modules(kit: Kit, folder: Path) -> list[Module]:
    made = []
    for number in range(MODULES):
        plus = tiny.random_adapter(kit.small, folder / f"adapter{number}", rank=4, seed=900 + number)
        made.append(create_module(f"soaked-{number}", kit.small, plus=plus, out=folder / f"module{number}"))
    return made


def server_arguments(folder: Path, modules: list[Module]) -> list[str]:
    arguments = [argument for each in modules for argument in ("--module", str(each.path))]
    arguments += [argument for name in ROUTES for argument in ("--route", f"{name}={modules[0].ref}")]
    arguments += ["--max-resident-modules", str(PLACES), "--max-modules-per-batch", str(SLOTS)]
    arguments += ["--state-dir", str(folder / "state"), "--cache-dir", str(folder / "cache")]
    return [*arguments, "--audit-log", str(folder / "audit.jsonl"), "--disable-uvicorn-access-log"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        kit = build_kit(folder / "kit")
        modules = build_modules(kit, folder)
        with serving(folder, kit, server_arguments(folder, modules), **LITTLE_CACHED) as server:
            tally = asyncio.run(run(server, modules, chosen.minutes, chosen.clients))
    text = report(tally, chosen.minutes, chosen.clients)
    print(text)
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")
    sys.exit(bool(tally.failures))


if __name__ == "__main__":
    main()
