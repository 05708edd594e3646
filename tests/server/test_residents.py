"""Leases, and what is in the engine: shared loads, eviction of the least recently used, waiting for room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fakes import resident
from lethe_offsets.errors import LetheError
from lethe_server.errors import EngineFull, ModuleBusy
from lethe_server.residents import Resident
from worlds import World, declared, ref


@pytest.fixture
async def world() -> World:
    """Modules a to e, none of them routed; two places."""
    made = World(limit=2)
    await made.start(declared("abcde"))
    return made


@asynccontextmanager
async def use(world: World, group: str, strength: float | None = None) -> AsyncIterator[Resident]:
    held = world.resident(group, strength)
    with held.request():
        await world.residents.bring_in(held)
        yield held


async def test_drained_once_every_lease_is_released() -> None:
    held = resident("a")
    with held.request():
        with held.lease():
            assert held.num_requests == 1
            assert not await held.drained(0.01)
        assert not await held.drained(0.01)
    assert held.num_requests == 0
    assert await held.drained(0.01)


async def test_a_lease_is_released_when_its_block_fails() -> None:
    held = resident("a")
    with pytest.raises(RuntimeError, match="inside"), held.request():
        raise RuntimeError("inside")
    assert await held.drained(0)


async def test_waiting_ends_with_the_last_lease() -> None:
    held = resident("a")
    with held.lease():
        waiting = asyncio.create_task(held.drained(5))
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting


async def test_the_base_is_always_there(world: World) -> None:
    base = world.resident("base")
    assert (base.ref, base.label) == ("base", "none")
    assert await world.residents.bring_in(base) is None
    assert world.in_engine() == []


async def test_those_who_want_one_module_share_its_load(world: World) -> None:
    world.engine.open.clear()
    waiting = [asyncio.create_task(world.loaded("a")) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert world.engine.running == 1
    waiting[0].cancel()  # who asked first has gone; the others get it all the same
    world.engine.open.set()
    found = await asyncio.gather(*waiting[1:])
    assert len(set(found)) == 1
    assert world.in_engine() == ["a"]


async def test_the_least_recently_used_makes_room(world: World) -> None:
    await world.loaded("a")
    await world.loaded("b")
    await world.loaded("a")
    await world.loaded("c")
    assert world.in_engine() == ["a", "c"]
    await world.loaded("b")
    assert world.in_engine() == ["b", "c"]
    assert world.engine.unloaded == [ref("b"), ref("a")]


async def test_a_module_in_use_is_never_evicted(world: World) -> None:
    async with use(world, "a"):
        for other in "bcdeb":
            await world.loaded(other)
            assert "a" in world.in_engine()
    assert world.engine.most_held == 2


async def test_a_request_waits_for_room_and_no_longer_than_told(world: World) -> None:
    async with use(world, "a"):
        async with use(world, "b"):
            with pytest.raises(EngineFull, match="all 2 places"):
                await world.loaded("c")
            waiting = asyncio.create_task(world.loaded("c"))
            await asyncio.sleep(0.01)
        await waiting
        assert world.in_engine() == ["a", "c"]
    assert world.residents.failures == {}


async def test_many_at_once_never_hold_more_than_there_are_places() -> None:
    world = World(limit=3, wait_s=5)
    await world.start(declared("abcdefghij"))

    async def ask(number: int) -> None:
        async with use(world, "abcdefghij"[number % 10]) as held:
            assert held.loaded is not None
            assert held.loaded in world.engine.held.values()
            await asyncio.sleep(0)

    await asyncio.gather(*(ask(number) for number in range(200)))
    assert world.engine.most_held == 3
    assert [each for each in world.residents.known() if not each.idle] == []


async def test_a_module_wanted_while_it_is_being_evicted_comes_back(world: World) -> None:
    await world.loaded("a")
    await world.loaded("b")
    world.engine.open.clear()
    third = asyncio.create_task(world.loaded("c"))
    await asyncio.sleep(0.01)  # a is on its way out
    again = asyncio.create_task(world.loaded("a"))
    await asyncio.sleep(0.01)
    world.engine.open.set()
    await asyncio.gather(third, again)
    assert "a" in world.in_engine()
    assert world.engine.most_held == 2


async def test_a_strength_is_a_resident_of_its_own(world: World) -> None:
    async with use(world, "a") as own, use(world, "a", 0.5) as half:
        assert own is not half
        assert half.loaded is not None
        assert (half.loaded.strength, half.ref) == (0.5, own.ref)
        with pytest.raises(EngineFull):
            await world.loaded("b")
    await world.loaded("b")
    assert world.in_engine() == ["a", "b"]


async def test_a_load_that_fails_takes_no_place_and_can_be_tried_again(world: World) -> None:
    world.engine.failure = LetheError("the module changes nothing")
    for _ in range(3):
        with pytest.raises(LetheError, match="changes nothing"):
            await world.loaded("a")
    assert list(world.residents.failures) == [(ref("a"),)]
    world.engine.failure = None
    await world.loaded("a")
    await world.loaded("b")
    assert world.in_engine() == ["a", "b"]
    assert world.residents.failures == {}


async def test_what_is_unused_and_nowhere_is_forgotten(world: World) -> None:
    for name in "abcde":
        await world.loaded(name)
    assert [each.label for each in world.residents.known()] == ["none", "d", "e"]


async def test_a_module_being_deleted_takes_no_new_request(world: World) -> None:
    world.residents.closing.add(ref("a"))
    for group in ("a", "a+b"):
        with pytest.raises(ModuleBusy):
            world.resident(group)
    world.resident("b")


async def test_a_module_is_in_use_while_a_merger_or_a_strength_of_it_is(world: World) -> None:
    async with use(world, "a+b"):
        assert await world.residents.drained(ref("a"), 0.01) == 1
        assert await world.residents.drained(ref("c"), 0) == 0
    async with use(world, "a", 0.5):
        assert await world.residents.drained(ref("a"), 0.01) == 1
    assert await world.residents.drained(ref("a"), 0) == 0
