"""Modules are loaded, flipped and deleted while 32 streams run: no error, and each answer is one version's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from openai import AsyncOpenAI

import tiny
from kit import Kit
from lethe_offsets.create import create_module
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from on_demand import EVERYTHING
from reference import Lanes
from server_process import ADMIN_KEY, Server, serving

pytestmark = pytest.mark.engine
PROMPTS = ("Where was Marta Lindqvist born?", "The capital of France", "One, two, three", "A forget module says")
NUM_STREAMS = 32
NUM_TOKENS = 24
NUM_CYCLES = 4
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.fixture(scope="module")
def versions(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> list[Module]:
    """Three versions of one module, with one name."""
    root = tmp_path_factory.mktemp("versions")
    rules = (Rule(), Rule(strength=1.5), Rule(strength=0.7, pin_special=True))
    made = []
    for number, rule in enumerate(rules):
        plus = tiny.random_adapter(kit.small, root / f"adapter{number}", rank=4, seed=100 + number)
        made.append(create_module("swapped", kit.small, plus=plus, rule=rule, out=root / f"version{number}"))
    return made


@pytest.fixture(scope="module", params=[1, 2] if EVERYTHING else [1])
def num_engines(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def server(
    kit: Kit, versions: list[Module], num_engines: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    arguments = ["--module", str(versions[0].path), "--route", "live=swapped", "--max-modules-per-batch", "2"]
    arguments += ["--data-parallel-size", str(num_engines)]
    with serving(tmp_path_factory.mktemp("swap"), kit, arguments, VLLM_CPU_OMP_THREADS_BIND="nobind") as running:
        yield running


@dataclass(frozen=True)
class Answer:
    """One finished stream: its prompt, the module named when it began, its tokens."""

    prompt: str
    ref: str
    tokens: tuple[int, ...]


async def stream_until(client: AsyncOpenAI, prompt: str, done: asyncio.Event, answers: list[Answer]) -> None:
    while not done.is_set():
        raw = await client.completions.with_raw_response.create(
            model="live",
            prompt=prompt,
            max_tokens=NUM_TOKENS,
            temperature=0,
            stream=True,
            extra_body={"return_token_ids": True, "ignore_eos": True},
        )
        tokens: list[int] = []
        async for chunk in raw.parse():
            choice: Any = chunk.choices[0]
            tokens += choice.token_ids or []
            assert chunk.model == "live"
        answers.append(Answer(prompt, raw.headers["x-lethe-module"], tuple(tokens)))


async def swap_round_and_round(admin: httpx.AsyncClient, versions: list[Module]) -> None:
    """Each cycle brings in every other version, flips to it and deletes the one before."""
    current = versions[0]
    for number in range(1, NUM_CYCLES * len(versions) + 1):
        coming = versions[number % len(versions)]
        loaded = await admin.post("/admin/modules", json={"source": str(coming.path)})
        assert loaded.status_code == 201, loaded.text
        flipped = await admin.put("/admin/routes/live", json={"module": coming.ref})
        answer = flipped.json()
        assert (answer["module"], answer["previous"]) == (coming.ref, current.ref)
        assert answer["observed_generation"] == answer["generation"]
        deleted = await admin.delete(f"/admin/modules/{current.ref}")
        assert deleted.status_code == 204, deleted.text
        current = coming


async def test_swaps_under_load(server: Server, kit: Kit, versions: list[Module]) -> None:
    done = asyncio.Event()
    answers: list[Answer] = []
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with (
        server.async_openai(ADMIN_KEY) as client,
        httpx.AsyncClient(base_url=server.url, headers=headers, timeout=120) as admin,
        asyncio.TaskGroup() as group,
    ):
        for number in range(NUM_STREAMS):
            group.create_task(stream_until(client, PROMPTS[number % len(PROMPTS)], done, answers))
        await asyncio.sleep(0.5)
        await swap_round_and_round(admin, versions)
        done.set()
    expected = _expected(server, kit, versions)
    assert len(set(expected.values())) == len(expected)
    for answer in answers:
        assert [
            ref for (prompt, ref), tokens in expected.items() if (prompt, tokens) == (answer.prompt, answer.tokens)
        ] == [answer.ref]
    assert {answer.ref for answer in answers} == {module.ref for module in versions}
    assert len(answers) > 2 * NUM_STREAMS


def _expected(server: Server, kit: Kit, versions: list[Module]) -> dict[tuple[str, str], tuple[int, ...]]:
    reference = kit.reference()
    expected = {}
    for prompt in PROMPTS:
        ids = server.post("/tokenize", {"model": "live", "prompt": prompt})["tokens"]
        for module in versions:
            lanes = Lanes(module.lanes["plus"], None, module.rule)
            expected[prompt, module.ref] = tuple(reference.greedy(ids, lanes, NUM_TOKENS))
    return expected


def test_afterwards_nothing_is_left(server: Server) -> None:
    with server.http(ADMIN_KEY) as http:
        (left,) = http.get("/admin/modules").json()
        shown = http.get("/metrics").text
    assert left["active_on"] == ["live"]
    assert left["inflight"] == 0
    assert 'lethe_inflight_requests{module="swapped"} 0.0' in shown
    assert shown.count("lethe_module_info{") == 1
    assert f'lethe_swaps_total{{result="flipped"}} {NUM_CYCLES * 3}.0' in shown
    assert 'outcome="error"' not in shown
    assert 'outcome="aborted"' not in shown
    assert "Traceback" not in server.log.read_text()


def test_every_engine_took_its_part(server: Server, num_engines: int) -> None:
    tokens = [server.metric(f'vllm:generation_tokens_total{{engine="{number}"') for number in range(num_engines)]
    assert sum(tokens) == server.metric("vllm:generation_tokens_total")
    assert min(tokens) > sum(tokens) / num_engines / 2


@pytest.mark.skipif(
    not HUGE_PAGES.is_file() or "[never]" in HUGE_PAGES.read_text(), reason="the kernel has no huge pages for processes"
)
def test_engines_keep_their_memory_in_huge_pages(server: Server, num_engines: int) -> None:
    shares = [Path(f"/proc/{process.pid}/smaps_rollup").read_text() for process in server.processes()]
    with_some = [share for share in shares if not re.search(r"^AnonHugePages: +0 kB$", share, re.MULTILINE)]
    assert len(with_some) >= num_engines


def test_a_server_that_is_killed_leaves_no_process(server: Server) -> None:
    """The last test: of the engines, and of what shares requests out among them."""
    processes = server.processes()
    assert processes
    server.process.kill()
    assert psutil.wait_procs(processes, timeout=30)[1] == []
