"""More modules than slots: nobody waits for ever, and everyone gets what is theirs."""

from __future__ import annotations

import asyncio

import pytest

from engine_requests import NUM_TOKENS, PROMPT, answer, lanes_of
from kit import Kit
from lethe_server.engine.loaded import LoadedModule
from lethe_server.engine.service import OffsetEngine
from reference import Reference

pytestmark = pytest.mark.engine

LONG = 150  # tokens


class Traffic:
    """Answers without end of one module, several at a time."""

    def __init__(self, engine: OffsetEngine, loaded: LoadedModule) -> None:
        self.answers: list[list[int]] = []
        self._tasks = [asyncio.create_task(self._ask(engine, loaded, each)) for each in range(3)]

    async def _ask(self, engine: OffsetEngine, loaded: LoadedModule, place: int) -> None:
        await asyncio.sleep(0.05 * place)  # so that one is always running
        while True:
            self.answers.append(await answer(engine, loaded, num_tokens=LONG))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_a_module_is_loaded_while_all_slots_are_busy(
    engine: OffsetEngine, kit: Kit, reference: Reference
) -> None:
    """Its probe takes a slot for a step, and the answers that sat out are right. Then its requests get their turn."""
    busy = [await engine.load(kit.modules[name]) for name in ("plain", "ranked")]
    traffic = [Traffic(engine, loaded) for loaded in busy]
    await asyncio.sleep(0.5)
    async with asyncio.timeout(300):  # without turns it never ends
        third = await engine.load(kit.modules["both"])
        expected = reference.greedy(PROMPT, lanes_of(kit.modules["both"]), NUM_TOKENS)
        assert await answer(engine, third) == expected
        while not all(each.answers for each in traffic):
            await asyncio.sleep(0.1)
    for each in traffic:
        await each.stop()
    for each, loaded in zip(traffic, busy, strict=True):
        tokens = reference.greedy(PROMPT, lanes_of(loaded.modules[0]), LONG)
        assert all(one == tokens for one in each.answers)
    for loaded in (*busy, third):
        await engine.unload(loaded)


async def test_sixty_four_modules_at_once(engine: OffsetEngine, kit: Kit, reference: Reference) -> None:
    """In two slots, with another rule each, half of them adapters on both lanes."""
    asked = [(name, 0.03 * number) for number in range(1, 33) for name in ("plain", "both")]
    loaded = [await engine.load(kit.modules[name], strength) for name, strength in asked]
    answers = await asyncio.gather(*(answer(engine, one) for one in loaded))
    wrong = [
        (name, strength)
        for (name, strength), tokens in zip(asked, answers, strict=True)
        if tokens != reference.greedy(PROMPT, lanes_of(kit.modules[name], strength=strength), NUM_TOKENS)
    ]
    assert wrong == []
    for one in loaded:
        await engine.unload(one)
