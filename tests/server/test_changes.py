"""Changes of what is declared, over an engine that loads any module at once."""

from __future__ import annotations

import asyncio

import pytest

from fakes import module
from lethe_offsets.errors import InvalidInput, LetheError, ModuleNotFound, SourceForbidden
from lethe_server.changes import Order
from lethe_server.errors import DrainTimeout, EngineFull, ModelNotFound, ModuleBusy, StateConflict
from lethe_server.reconciler import Terms
from worlds import ORDER, FakeStore, World, declared, ref, refs, spec


@pytest.fixture
async def world() -> World:
    """Module a on route ``public``; every module below ``/nowhere`` can be added."""
    made = World()
    await made.start(declared("a", public="a"))
    return made


async def add(world: World, name: str, expected: int | None = None) -> bool:
    """Whether it was new."""
    changed = await world.changes.add_module(Order("tester", expected), f"/nowhere/{name}")
    assert changed.subject == ref(name)
    return changed.after is not changed.before


def targets(world: World, model: str = "public") -> list[tuple[str, ...]]:
    return [target.modules for target in world.reconciler.served.route(model).targets]


async def test_adding_is_idempotent_and_changes_no_route(world: World) -> None:
    assert await add(world, "b")
    assert not await add(world, "b")
    assert world.in_engine() == ["a", "b"]
    assert world.routes.names() == ["public"]
    assert "lethe_module_load_seconds_count 2.0" in world.shown()
    assert world.reconciler.served.generation == 2


async def test_the_same_module_added_twice_at_once(world: World) -> None:
    assert sorted(await asyncio.gather(add(world, "b"), add(world, "b"))) == [False, True]
    assert world.in_engine() == ["a", "b"]


@pytest.mark.parametrize("source", ["/etc", "../elsewhere", ""])
async def test_sources_that_are_not_allowed(world: World, source: str) -> None:
    with pytest.raises(SourceForbidden):
        await world.changes.add_module(ORDER, source)


async def test_a_module_that_fails_to_load_leaves_nothing(world: World) -> None:
    world.engine.failure = LetheError("the module changes nothing")
    with pytest.raises(LetheError, match="changes nothing"):
        await add(world, "b")
    assert world.in_engine() == ["a"]
    assert world.reconciler.served == declared("a", public="a")
    with pytest.raises(ModuleNotFound):
        world.store.get_module(ref("b"))


async def test_a_swap(world: World) -> None:
    await add(world, "b")
    await world.point("public", "b")
    assert targets(world) == [refs("b")]
    await world.changes.remove_module(ORDER, "a")
    assert world.in_engine() == ["b"]
    shown = world.shown()
    assert 'lethe_route_info{model="public",module="b"} 1.0' in shown
    assert 'lethe_swaps_total{result="flipped"} 1.0' in shown
    assert 'module="a"' not in shown
    assert "lethe_state_observed_generation 4.0" in shown
    with pytest.raises(ModuleNotFound):
        world.store.get_module(ref("a"))


async def test_a_route_is_served_only_once_all_its_modules_are_in_the_engine(world: World) -> None:
    for name in "bcd":
        await add(world, name)
    world.engine.unloaded.clear()
    for group in ("b", "c", "d"):
        await world.residents.put_out(refs(group))
    world.engine.open.clear()
    changing = asyncio.create_task(world.point("public", spec("b+c", "c", shadow="d")))
    await asyncio.sleep(0.01)
    assert targets(world) == [refs("a")]
    world.engine.open.set()
    await changing
    assert targets(world) == [refs("b+c"), refs("c")]
    assert world.in_engine() == ["a", "b_c", "c", "d"]


async def test_a_module_that_can_not_be_served_leaves_the_route_and_the_state_as_they_were(world: World) -> None:
    await add(world, "b")
    await world.residents.put_out(refs("b"))
    before = world.store.read()
    world.engine.failure = LetheError("its files are damaged")
    with pytest.raises(LetheError, match="damaged"):
        await world.point("public", "b")
    assert targets(world) == [refs("a")]
    assert world.store.read() == before
    assert 'lethe_swaps_total{result="refused"} 1.0' in world.shown()


async def test_without_room_a_change_is_refused_and_nothing_lost() -> None:
    world = World(limit=1)
    await world.start(declared("ab", public="a"))
    with world.resident("a").request(), pytest.raises(EngineFull):
        await world.point("public", "b")
    assert targets(world) == [refs("a")]
    await world.point("public", "b")
    assert world.in_engine() == ["b"]


async def test_rollback_and_back_again(world: World) -> None:
    await add(world, "b")
    await world.point("public", "b")
    await world.changes.roll_back(ORDER, "public")
    assert targets(world) == [refs("a")]
    changed = await world.changes.roll_back(ORDER, "public")
    assert targets(world) == [refs("b")]
    assert (changed.before.generation, changed.after.generation) == (4, 5)


async def test_a_deleted_route(world: World) -> None:
    await world.changes.delete_route(ORDER, "public")
    assert world.routes.names() == []
    assert world.in_engine() == ["a"]
    with pytest.raises(ModelNotFound):
        await world.changes.delete_route(ORDER, "public")


@pytest.mark.parametrize(
    ("model", "group", "error"),
    [
        ("base", "a", InvalidInput),
        ("a..b", "a", InvalidInput),
        ("public", "b", ModuleNotFound),
        ("x", "base", InvalidInput),
    ],
)
async def test_routes_that_can_not_be(world: World, model: str, group: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await world.point(model, group)
    assert world.routes.names() == ["public"]
    assert 'lethe_swaps_total{result="refused"} 1.0' in world.shown()


async def test_the_large_model_alone_where_that_is_allowed() -> None:
    world = World(terms=Terms(allow_unprotected=True))
    await world.start(declared("a", public="a"))
    await world.point("public", "base")
    assert targets(world) == [()]


async def test_a_module_with_a_route_can_not_be_deleted(world: World) -> None:
    with pytest.raises(ModuleBusy, match="public"):
        await world.changes.remove_module(ORDER, "a")
    with pytest.raises(ModuleNotFound):
        await world.changes.remove_module(ORDER, "b")


@pytest.mark.parametrize("group", ["b", "b+c"])
async def test_a_deletion_waits_for_requests(world: World, group: str) -> None:
    for name in "bc":
        await add(world, name)
    held = await world.loaded(group)
    with held.request():
        deleting = asyncio.create_task(world.changes.remove_module(ORDER, "b"))
        await asyncio.sleep(0.01)
        assert not world.engine.unloaded
        for change in (add(world, "b"), world.point("public", "b"), world.changes.remove_module(ORDER, "b")):
            with pytest.raises(ModuleBusy):
                await change
    await deleting
    assert world.engine.unloaded.count(ref("b")) == 1
    assert [each for each in world.in_engine() if "b" in each] == []


async def test_a_deletion_that_takes_too_long_loses_nothing(world: World) -> None:
    await add(world, "b")
    with world.resident("b").request(), pytest.raises(DrainTimeout, match="1 requests"):
        await world.changes.remove_module(ORDER, "b")
    assert world.in_engine() == ["a", "b"]
    assert not world.residents.closing
    await world.point("public", "b")
    await world.point("public", "a")
    await world.changes.remove_module(ORDER, "b")
    assert world.engine.unloaded == [ref("b")]


async def test_other_changes_do_not_wait_for_a_deletion(world: World) -> None:
    await add(world, "b")
    with world.resident("b").request():
        deleting = asyncio.create_task(world.changes.remove_module(ORDER, "b"))
        await asyncio.sleep(0)
        await asyncio.wait_for(world.point("other", "a"), 0.04)
        assert not deleting.done()
    await deleting


async def test_a_deleted_module_can_be_added_again(world: World) -> None:
    for _ in range(3):
        await add(world, "b")
        await world.changes.remove_module(ORDER, "b")
    assert world.in_engine() == ["a"]
    assert await add(world, "b")


async def test_a_change_goes_on_when_who_asked_for_it_has_gone(world: World) -> None:
    world.engine.open.clear()
    adding = asyncio.create_task(add(world, "b"))
    await asyncio.sleep(0.01)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    world.engine.open.set()
    await world.changes.close()
    assert ref("b") in world.reconciler.served.catalog


async def test_another_generation_than_the_expected_one(world: World) -> None:
    await add(world, "b", expected=1)
    for change in (
        world.point("public", "b", expected=1),
        world.changes.roll_back(Order("tester", 3), "public"),
        world.changes.delete_route(Order("tester", 1), "public"),
        world.changes.remove_module(Order("tester", 1), "b"),
        add(world, "c", expected=1),
    ):
        with pytest.raises(StateConflict, match="2 is declared"):
            await change
    assert world.in_engine() == ["a", "b"]
    assert world.reconciler.served.generation == 2
    assert ref("c") not in world.store.read().catalog  # type: ignore[union-attr]
    await world.point("public", "b", expected=2)


async def test_of_two_servers_changes_none_is_lost() -> None:
    store = FakeStore()
    one, two = World(store), World(FakeStore(store.shared))
    for world in (one, two):
        await world.start(declared("ab", public="a"))
    names = [f"model-{number}" for number in range(10)]
    await asyncio.gather(*((one, two)[number % 2].point(name, "b") for number, name in enumerate(names)))
    for world in (one, two):
        await world.reconciler.follow()
        assert world.routes.names() == sorted([*names, "public"])
        assert world.reconciler.served.generation == 11


async def test_modules_are_what_a_file_says_even_if_it_was_added_under_another_name(world: World) -> None:
    changed = await world.changes.add_module(ORDER, "/nowhere/x/../b")
    assert changed.subject == module("b").ref
