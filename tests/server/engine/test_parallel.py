"""Several processes: tensor parallelism within an engine, data parallelism as several engines behind one client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import tiny
from agreement import largest_difference, random_prompts
from engine_requests import PROMPT as ASKED
from engine_requests import answer, ask_all, lanes_of, spec
from kit import Kit
from lethe_offsets.create import create_module
from lethe_server.engine.probe import ProbeFailed
from lethe_server.engine.service import OffsetEngine
from on_demand import EVERYTHING
from reference import Reference

KINDS = (None, "plain", "both", "ranked")
TOLERANCE = 1e-4  # nats
LAYOUTS: dict[str, dict[str, Any]] = {
    "tensor parallel": {"tensor_parallel_size": 2},
    "data parallel": {"data_parallel_size": 2},
    "tensor parallel, compiled": {"tensor_parallel_size": 2, "enforce_eager": False},
}
ALWAYS = ("data parallel",)

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module", params=LAYOUTS if EVERYTHING else ALWAYS)
async def engine(request: pytest.FixtureRequest, kit: Kit) -> AsyncIterator[OffsetEngine]:
    """Two slots for three modules, prompts in chunks; two processes with a core each, as far as there are cores."""
    plain = spec(kit)
    chunks = {"max_num_batched_tokens": 64}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        patch.setenv("OMP_NUM_THREADS", "1")
        engine = await OffsetEngine.start(spec(kit, options={**plain.options, **chunks, **LAYOUTS[request.param]}))
        yield engine
        await engine.close()


async def test_exact_on_every_rank(engine: OffsetEngine, kit: Kit, reference: Reference) -> None:
    """The same prompts for every kind and engine, more modules than slots."""
    loaded = {kind: await engine.load(kit.modules[kind]) if kind else None for kind in KINDS}
    prompts = [prompt for prompt in random_prompts((20, 20, 90, 90, 130, 130)) for _ in KINDS]
    kinds = list(KINDS) * 6
    outputs = await ask_all(engine, prompts, [loaded[kind] for kind in kinds], len(KINDS))
    for output, prompt, kind in zip(outputs, prompts, kinds, strict=True):
        assert largest_difference(output, prompt, reference, kit, kind) < TOLERANCE, kind
    assert len({tuple(output.outputs[0].token_ids) for output in outputs[: len(KINDS)]}) == len(KINDS)
    for one in filter(None, loaded.values()):
        await engine.unload(one)


async def test_modules_come_and_go_on_every_rank(engine: OffsetEngine, kit: Kit, reference: Reference) -> None:
    """While answers of another one go on; each load is probed on every engine."""
    steady = await engine.load(kit.modules["ranked"])
    expected = reference.greedy(ASKED, lanes_of(kit.modules["ranked"]), 10)
    answers = asyncio.gather(*(answer(engine, steady) for _ in range(8)))
    for strength in (0.5, 1.0, 2.0):
        one = await engine.load(kit.modules["plain"], strength)
        asked = await asyncio.gather(*(answer(engine, one) for _ in range(4)))
        assert asked == [reference.greedy(ASKED, lanes_of(kit.modules["plain"], strength=strength), 10)] * 4
        await engine.unload(one)
    assert await answers == [expected] * 8
    await engine.unload(steady)
    assert await engine.client.list_loras() == []


async def test_a_module_that_does_nothing_is_refused(engine: OffsetEngine, kit: Kit, tmp_path: Any) -> None:
    adapter = tiny.random_adapter(kit.small, tmp_path / "silent", scale=0.0)
    silent = create_module("silent", kit.small, plus=adapter, out=tmp_path / "module")
    with pytest.raises(ProbeFailed):
        await engine.load(silent)
    assert await engine.client.list_loras() == []


async def test_rows_of_every_engine_are_counted(engine: OffsetEngine, kit: Kit) -> None:
    """A row for each token drawn, and one for each prompt position scored; whichever engine computed it."""
    loaded = await engine.load(kit.modules["plain"])
    await engine.read()
    prompts = random_prompts((8,) * 8)  # none is cut in two
    await ask_all(engine, prompts, [loaded] * 8)
    reading = await engine.read()
    assert reading.tallies[loaded.adapter_id].rows == 8 * (10 + 7)
    assert reading.slots_used == 1
    await engine.unload(loaded)
