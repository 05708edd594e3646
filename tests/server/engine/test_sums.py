"""Several modules under one request: the sum of their offsets, each from lanes of its own."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from agreement import ask, largest_difference, random_prompts
from engine_requests import NUM_TOKENS, PROMPT, answer, ask_all, lanes_of, spec
from kit import Kit, build_kit, serve
from lethe_offsets.create import create_module
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.pair import Rule
from lethe_server.engine.loaded import LoadedModule
from lethe_server.engine.probe import ProbeFailed
from lethe_server.engine.service import OffsetEngine
from on_demand import EVERYTHING, on_demand

KINDS = (None, "plain+second", "both", "plain+clipped", "plain", "both+second", "both+ranked", "plain+ranked")
TOLERANCE = 1e-4  # nats
LAYOUTS: dict[str, dict[str, Any]] = {
    "compiled": {"enforce_eager": False},
    "eager": {},
    "too small a cache": {"num_gpu_blocks_override": 10},
    "tensor parallel": {"tensor_parallel_size": 2},
}
ALWAYS = ("eager",)

pytestmark = pytest.mark.engine


def with_two_more(kit: Kit, root: Path) -> Kit:
    """Beside the kit's own a second linear module and one whose offset is bounded, on both lanes."""
    adapters = [tiny.random_adapter(kit.small, root / f"a{seed}", rank=5, seed=30 + seed) for seed in range(3)]
    second = create_module("second", kit.small, plus=adapters[0], rule=Rule(strength=0.6), out=root / "second")
    clipped = Rule(strength=1.5, clip=0.8, plausibility=0.01)
    bounded = create_module(
        "clipped", kit.small, plus=adapters[1], minus=adapters[2], rule=clipped, out=root / "clipped"
    )
    return dataclasses.replace(kit, modules={**kit.modules, "second": second, "clipped": bounded})


@pytest.fixture(scope="module")
def more(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return with_two_more(kit, tmp_path_factory.mktemp("more"))


@pytest.fixture(scope="module", params=LAYOUTS if EVERYTHING else ALWAYS)
async def engine(request: pytest.FixtureRequest, more: Kit) -> AsyncIterator[OffsetEngine]:
    """Two pairs, two slots, prompts in chunks."""
    options = {**spec(more).options, "max_num_batched_tokens": 64, **LAYOUTS[request.param]}
    with pytest.MonkeyPatch.context() as patch:
        if "tensor_parallel_size" in options:
            patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
            patch.setenv("OMP_NUM_THREADS", "1")
        engine = await OffsetEngine.start(spec(more, options=options, max_offsets_per_request=2))
        yield engine
        await engine.close()


async def load_all(engine: OffsetEngine, kit: Kit) -> dict[str | None, LoadedModule | None]:
    return {kind: await engine.load(kit.named(kind)) if kind else None for kind in KINDS}


async def test_exact_in_one_batch(engine: OffsetEngine, more: Kit) -> None:
    """Seven adapters in two slots; the same prompts for every kind, and some once more where their keys are cached."""
    reference, loaded = more.reference(), await load_all(engine, more)
    prompts = [prompt for prompt in random_prompts((20, 120)) for _ in KINDS]
    kinds = list(KINDS) * 2
    outputs = await ask_all(engine, prompts, [loaded[kind] for kind in kinds])
    for output, prompt, kind in zip(outputs, prompts, kinds, strict=True):
        assert largest_difference(output, prompt, reference, more, kind) < TOLERANCE, kind
    assert len({tuple(output.outputs[0].token_ids) for output in outputs[: len(KINDS)]}) == len(KINDS)
    for kind in KINDS[1::2]:
        expected = reference.greedy(PROMPT, more.lanes(kind), NUM_TOKENS)
        for _ in range(2):  # without scored prompts, which find no cache
            assert await answer(engine, loaded[kind]) == expected, kind
    for one in filter(None, loaded.values()):
        await engine.unload(one)
    assert await engine.client.list_loras() == []


async def test_a_strength_is_that_of_every_module(engine: OffsetEngine, more: Kit) -> None:
    modules = more.named("second+plain")
    own, varied, swapped = [
        await engine.load(asked, strength)
        for asked, strength in ((modules, None), (modules, 1.5), (modules[::-1], 0.5))
    ]
    refs = "+".join(sorted(module.ref for module in modules))
    assert (own.ref, own.name) == (refs, refs)
    assert (varied.ref, varied.name, swapped.name) == (refs, f"{refs}*1.5", f"{refs}*0.5")
    await engine.read()
    answers = await asyncio.gather(*(answer(engine, one) for one in (own, varied, swapped)))
    expected = [
        more.reference().greedy(PROMPT, [lanes_of(module, **rule) for module in modules], NUM_TOKENS)
        for rule in ({}, {"strength": 1.5}, {"strength": 0.5})
    ]
    assert answers == expected
    tallies = (await engine.read()).tallies
    for one in (own, varied, swapped):
        assert tallies[one.adapter_id].refused == 0
        await engine.unload(one)
    with pytest.raises(InvalidInput, match=r"strength: got 2.5; accepted: 0 to 2, the bounds of plain@"):
        await engine.load(modules, 2.5)


async def test_every_module_of_a_sum_has_to_act(engine: OffsetEngine, more: Kit, tmp_path: Path) -> None:
    adapter = tiny.random_adapter(more.small, tmp_path / "silent", scale=0.0)
    for name in ("a-silent", "z-silent"):  # first or last in the slot
        silent = create_module(name, more.small, plus=adapter, out=tmp_path / name)
        with pytest.raises(ProbeFailed, match="changes nothing"):
            await engine.load([silent, more.modules["plain"]])
    loaded = await engine.load(more.named("plain+second"))
    await engine.client.collective_rpc("lethe_forget", args=(loaded.adapter_id,))
    with pytest.raises(ProbeFailed, match="error"):
        await engine.probe(loaded)
    await engine.unload(loaded)
    assert await engine.client.list_loras() == []


async def test_what_can_not_be_summed_is_refused(engine: OffsetEngine, more: Kit, tmp_path: Path) -> None:
    with pytest.raises(ModuleIncompatible, match=r"modules: got 3; accepted: at most 2 .*--max-offsets-per-request"):
        await engine.load(more.named("plain+second+clipped"))
    wide = create_module(
        "wide", more.small, plus=tiny.random_adapter(more.small, tmp_path / "a", rank=30), out=tmp_path / "wide"
    )
    with pytest.raises(ModuleIncompatible, match="rank: got 34; accepted: at most 32, both lanes of all 2 modules"):
        await engine.load([wide, more.modules["plain"]])
    assert not list(engine._adapters.iterdir())


@on_demand
def test_three_pairs_and_drafts(tmp_path: Path) -> None:
    """The draft shares the small model's weights and has lanes of neither module."""
    kit = with_two_more(build_kit(tmp_path, vocab_padding=0), tmp_path / "more")
    kit = dataclasses.replace(kit, large=kit.small)
    kinds = [*KINDS, "plain+second+clipped"]
    prompts = random_prompts([20 + 9 * number for number in range(len(kinds))])
    with serve(kit, tmp_path / "adapters", enforce_eager=True, draft_tokens=3, max_offsets_per_request=3) as served:
        for output, prompt, kind in zip(ask(served, kit, prompts, kinds), prompts, kinds, strict=True):
            assert largest_difference(output, prompt, kit.reference(), kit, kind) < TOLERANCE, kind
