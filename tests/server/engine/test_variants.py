"""One module at several strengths: each acts with its own, and caches are shared by none that differ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

import tiny
from engine_requests import NUM_TOKENS, PROMPT, answer, lanes_of, spec
from kit import Kit
from lethe_offsets.create import create_module
from lethe_offsets.errors import InvalidInput
from lethe_server.engine.service import OffsetEngine
from reference import Reference

GATE = 1.0  # nats
pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
async def engine(kit: Kit) -> AsyncIterator[OffsetEngine]:
    engine = await OffsetEngine.start(spec(kit, max_resident_modules=2))
    yield engine
    await engine.close()


async def test_variants_in_one_batch(engine: OffsetEngine, kit: Kit, reference: Reference) -> None:
    """Three of one module at once in two slots, the prompt cached by the first; 0 is the large model alone."""
    module = kit.modules["both"]
    loaded = [await engine.load(module, strength) for strength in (None, 1.5, 0.0)]
    assert [one.strength for one in loaded] == [None, 1.5, 0.0]
    assert len({one.name for one in loaded}) == 3
    expected = [
        reference.greedy(PROMPT, lanes, NUM_TOKENS)
        for lanes in (lanes_of(module), lanes_of(module, strength=1.5), lanes_of(module, strength=0.0))
    ]
    assert len({tuple(tokens) for tokens in expected}) == 3
    for _ in range(2):
        answers = await asyncio.gather(*(answer(engine, one) for one in loaded for _ in range(2)))
        assert answers == [tokens for tokens in expected for _ in range(2)]
    for one in loaded:
        await engine.unload(one)


async def test_more_variants_than_host_memory_is_set_aside_for(
    engine: OffsetEngine, kit: Kit, reference: Reference
) -> None:
    """What vLLM has dropped from memory it reads again, and every row keeps its own strength."""
    module = kit.modules["plain"]
    strengths = [0.1 * (1 + number) for number in range(14)]
    loaded = [await engine.load(module, strength) for strength in strengths]
    answers = await asyncio.gather(*(answer(engine, one) for one in loaded))
    for strength, tokens in zip(strengths, answers, strict=True):
        assert tokens == reference.greedy(PROMPT, lanes_of(module, strength=strength), NUM_TOKENS), strength
    for one in loaded:
        await engine.unload(one)
    assert await engine.client.list_loras() == []


async def test_a_gate(engine: OffsetEngine, kit: Kit, reference: Reference, tmp_path: Path) -> None:
    """Open at some positions and closed at others."""
    plain = kit.modules["plain"]
    adapter = plain.lanes["plus"]
    gated = create_module("gated", kit.small, plus=adapter, rule=replace(plain.rule, gate=GATE), out=tmp_path / "gated")
    expected = reference.greedy(PROMPT, lanes_of(gated), NUM_TOKENS)
    assert expected != reference.greedy(PROMPT, lanes_of(plain), NUM_TOKENS)
    assert expected != reference.greedy(PROMPT, None, NUM_TOKENS)
    loaded = await engine.load(gated)
    assert await answer(engine, loaded) == expected
    await engine.unload(loaded)


async def test_a_gate_that_the_probe_does_not_reach(
    engine: OffsetEngine, kit: Kit, reference: Reference, tmp_path: Path
) -> None:
    plain = kit.modules["plain"]
    shut = create_module(
        "shut", kit.small, plus=plain.lanes["plus"], rule=replace(plain.rule, gate=1e6), out=tmp_path / "shut"
    )
    loaded = await engine.load(shut)
    assert await answer(engine, loaded) == reference.greedy(PROMPT, None, NUM_TOKENS)
    await engine.unload(loaded)


@pytest.mark.parametrize("strength", [-0.1, 2.5, float("nan")])
async def test_a_strength_outside_of_the_bounds_is_refused(engine: OffsetEngine, kit: Kit, strength: float) -> None:
    with pytest.raises(InvalidInput, match=r"strength: got .*; accepted: 0 to 2"):
        await engine.load(kit.modules["plain"], strength)
    assert not list(engine._adapters.iterdir())


async def test_another_version_finds_no_cache_of_the_first(
    engine: OffsetEngine, kit: Kit, reference: Reference, tmp_path: Path
) -> None:
    """Its reference holds its digest: vLLM 0.26 keeps caches apart by that name alone."""
    for seed in (81, 82):
        adapter = tiny.random_adapter(kit.small, tmp_path / f"adapter{seed}", rank=4, seed=seed)
        module = create_module("same", kit.small, plus=adapter, out=tmp_path / f"module{seed}")
        loaded = await engine.load(module)
        for _ in range(2):  # the second time from the cache
            expected = reference.greedy(PROMPT, lanes_of(module), NUM_TOKENS)
            assert await answer(engine, loaded) == expected
        await engine.unload(loaded)
