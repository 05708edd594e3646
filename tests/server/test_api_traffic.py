"""500 concurrent streams through 200 random changes, with clients that leave: each answer is one version's.

Over plain HTTP: the official client would take more of the processor than the server does.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
import pytest

import tiny
from kit import Kit
from lethe_offsets.create import create_module
from lethe_offsets.module import Module
from on_demand import on_demand
from server_process import ADMIN_KEY, CLIENT_KEY, LITTLE_CACHED, Server, serving

pytestmark = [pytest.mark.engine, on_demand]
NUM_STREAMS = 500
NUM_CHANGES = 200
NUM_VERSIONS = 6
NUM_PLACES = NUM_VERSIONS + 1  # and two of them merged: with fewer, changes wait until the streams let one go
# Long answers in few pieces: the streams keep the engine busy, not the two processes that talk HTTP.
NUM_TOKENS = 120
PIECE = 30  # tokens
PAUSE_S = 0.1  # between changes: time for requests to meet what is served
MAX_GROWTH_MIB = 64  # from the middle of the changes to their end
ABORTED = 0.15  # share of the streams that their client leaves
PROMPTS = ("Where was Marta Lindqvist born?", "The capital of France", "One, two, three", "A forget module says")
ROUTES = ("live", "org/other")
LEAVING = httpx.Timeout(120, read=0.001)
SPARE = "spare"  # a route without clients, so that deleting it harms none
Answers = dict[tuple[str, tuple[int, ...]], str]
"""Prompt and tokens to the reference of what answered."""


@pytest.fixture(scope="module")
def versions(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> list[Module]:
    root = tmp_path_factory.mktemp("versions")
    made = []
    for number in range(NUM_VERSIONS):
        plus = tiny.random_adapter(kit.small, root / f"adapter{number}", rank=4, seed=400 + number)
        made.append(create_module("swapped", kit.small, plus=plus, out=root / f"version{number}"))
    return made


@pytest.fixture(scope="module")
def server(kit: Kit, versions: list[Module], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("traffic")
    arguments = [argument for each in versions for argument in ("--module", str(each.path))]
    arguments += [argument for name in ROUTES for argument in ("--route", f"{name}={versions[0].ref}")]
    arguments += ["--max-resident-modules", str(NUM_PLACES), "--max-modules-per-batch", str(NUM_PLACES)]
    arguments += ["--max-num-seqs", str(NUM_STREAMS), "--stream-interval", str(PIECE)]
    arguments += ["--num-gpu-blocks-override", str(6 * NUM_STREAMS)]  # as many as are in use: untouched ones take none
    arguments += ["--state-dir", str(folder / "state"), "--cache-dir", str(folder / "cache")]
    arguments += ["--audit-log", str(folder / "audit.jsonl"), "--disable-uvicorn-access-log"]
    with serving(folder, kit, arguments, **LITTLE_CACHED) as running:
        yield running


def body(model: str, prompt: str) -> dict[str, Any]:
    options = {"temperature": 0, "stream": True, "return_token_ids": True, "ignore_eos": True}
    return {"model": model, "prompt": prompt, "max_tokens": NUM_TOKENS, **options}


async def tokens_of(response: httpx.Response) -> AsyncIterator[int]:
    async for line in response.aiter_lines():
        if line.startswith("data: {"):
            for token in json.loads(line.removeprefix("data: "))["choices"][0]["token_ids"] or ():
                yield token


@dataclass
class Clients:
    """500 of them. counts: of finished answers by reference, and of aborted ones."""

    http: httpx.AsyncClient
    answers: Answers
    done: asyncio.Event = field(default_factory=asyncio.Event)
    counts: Counter[str] = field(default_factory=Counter)

    async def ask_until_done(self, number: int) -> None:
        drawn = random.Random(number)
        while not self.done.is_set():
            model, prompt = drawn.choice(ROUTES), drawn.choice(PROMPTS)
            key = drawn.choice((CLIENT_KEY, ADMIN_KEY))
            leaves_after = drawn.randrange(NUM_TOKENS) if drawn.random() < ABORTED else None
            await self.ask(model, prompt, key, leaves_after)

    async def ask(self, model: str, prompt: str, key: str, leaves_after: int | None) -> None:
        """leaves_after: tokens after which the client leaves; 0 is as soon as it has sent its request."""
        headers = {"Authorization": f"Bearer {key}"}
        tokens: list[int] = []
        if leaves_after == 0:
            with suppress(httpx.ReadTimeout):  # which it is unless this process was slower than the server
                await self.http.post("/v1/completions", json=body(model, prompt), headers=headers, timeout=LEAVING)
            self.counts["aborted"] += 1
            return
        async with self.http.stream("POST", "/v1/completions", json=body(model, prompt), headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            async for token in tokens_of(response):
                tokens.append(token)
                if leaves_after is not None and len(tokens) >= leaves_after:
                    self.counts["aborted"] += 1
                    return
        answered_by = self.answers.get((prompt, tuple(tokens)))
        assert answered_by is not None, (prompt, tokens)
        assert response.headers.get("x-lethe-module", answered_by) == answered_by
        self.counts[answered_by] += 1


@dataclass
class Administrator:
    """Changes at random what is served, until it has made enough changes. counts: of changes made, by kind.

    middle: called when half of them are made.
    """

    http: httpx.AsyncClient
    versions: list[Module]
    middle: Callable[[], None]
    drawn: random.Random = field(default_factory=lambda: random.Random(0))
    gone: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    async def work(self) -> None:
        await self.make(NUM_CHANGES // 2)
        self.middle()
        await self.make(NUM_CHANGES)

    async def make(self, until: int) -> None:
        async with asyncio.TaskGroup() as deleting:
            while self.counts.total() < until:
                kind = self.drawn.choices(("point", "rollback", "spare", "delete"), (10, 4, 2, 2))[0]
                if kind == "delete":
                    deleting.create_task(self.delete_and_add())
                else:
                    await getattr(self, kind)()
                await asyncio.sleep(PAUSE_S)

    async def change(self, kind: str, method: str, path: str, refused: tuple[int, ...] = (), **options: Any) -> bool:
        """Whether it was made; ``refused`` are the statuses that may say that it can't be."""
        response = await self.http.request(method, path, **options)
        assert response.is_success or response.status_code in refused, response.text
        self.counts[kind] += response.is_success
        return response.is_success

    async def point(self, model: str | None = None) -> None:
        one, two = (each.ref for each in self.drawn.sample(self.versions, 2))
        targets = [{"module": one, "weight": 95}, {"module": two, "weight": 5}]
        made = self.drawn.choice([{"module": one}, {"targets": targets}, {"modules": merged(self.versions)}])
        path = f"/admin/routes/{model or self.drawn.choice(ROUTES)}"
        await self.change("point", "PUT", path, refused=(404, 409), json=made)  # a version may be going or gone

    async def rollback(self) -> None:
        path = f"/admin/routes/{self.drawn.choice(ROUTES)}/rollback"
        await self.change("rollback", "POST", path, refused=(400, 404, 409))  # so may what was before

    async def spare(self) -> None:
        await self.point(SPARE)
        await self.change("route deleted", "DELETE", f"/admin/routes/{SPARE}", refused=(404,))

    async def delete_and_add(self) -> None:
        module = self.drawn.choice(self.versions)
        if module.ref in self.gone:
            return
        self.gone.add(module.ref)
        if await self.change("module deleted", "DELETE", f"/admin/modules/{module.ref}", refused=(409,)):
            await self.change("module added", "POST", "/admin/modules", json={"source": str(module.path)})
        self.gone.discard(module.ref)


def merged(versions: list[Module]) -> list[str]:
    """Those that one target merges."""
    return [each.ref for each in versions[:2]]


async def learn(http: httpx.AsyncClient, versions: list[Module]) -> Answers:
    """What each version, and two of them merged, answer to each prompt when nothing else is going on."""
    known: Answers = {}
    specs = [*({"module": each.ref} for each in versions), {"modules": merged(versions)}]
    for spec in specs:
        assert (await http.put(f"/admin/routes/{SPARE}", json=spec)).is_success
        for prompt in PROMPTS:
            async with http.stream("POST", "/v1/completions", json=body(SPARE, prompt)) as response:
                tokens = tuple([token async for token in tokens_of(response)])
            assert (prompt, tokens) not in known, "two versions answer the same"
            known[prompt, tokens] = response.headers["x-lethe-module"]
    assert len(set(known.values())) == len(specs)
    return known


def memory(server: Server) -> int:
    root = psutil.Process(server.process.pid)
    return sum(each.memory_info().rss for each in (root, *server.processes()))


async def settled(http: httpx.AsyncClient) -> str:
    """The metrics, once no request is in flight."""
    for _ in range(300):
        shown = (await http.get("/metrics")).text
        lines = [line for line in shown.splitlines() if line.startswith("lethe_inflight_requests{")]
        if lines and all(line.endswith(" 0.0") for line in lines):
            return shown
        await asyncio.sleep(0.1)
    raise AssertionError(lines)


async def test_swaps_rollbacks_and_deletes_under_load(server: Server, versions: list[Module]) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    # Nothing is kept open: the server may close an idle connection just when the next request is on its way.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(base_url=server.url, headers=headers, timeout=120, limits=limits) as admin,
        httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as http,
    ):
        answers = await learn(admin, versions)
        held: list[int] = []
        clients = Clients(http, answers)
        administrator = Administrator(admin, versions, lambda: held.append(memory(server)))
        async with asyncio.TaskGroup() as group:
            for number in range(NUM_STREAMS):
                group.create_task(clients.ask_until_done(number))
            await administrator.work()
            clients.done.set()
        shown = await settled(admin)
        grown = (memory(server) - held[0]) >> 20
        modules = (await admin.get("/admin/modules")).json()
    print(f"answers {dict(clients.counts)}, changes {dict(administrator.counts)}, memory {grown:+d} MiB")
    assert grown < MAX_GROWTH_MIB
    assert clients.counts["aborted"] > 20
    assert set(clients.counts) - {"aborted"} == set(answers.values())
    assert {kind for kind, number in administrator.counts.items() if number} == {
        "point",
        "rollback",
        "route deleted",
        "module deleted",
        "module added",
    }
    assert {each["ref"] for each in modules} == {each.ref for each in versions}
    assert [each["inflight"] for each in modules] == [0] * NUM_VERSIONS
    assert 0 < shown.count("lethe_module_info{") <= NUM_PLACES
    assert 'outcome="error"' not in shown
    assert "Traceback" not in server.log.read_text()
