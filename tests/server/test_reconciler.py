"""What is served follows what is declared, by whomever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import fakes
from lethe_offsets.errors import InvalidInput, LetheError, ModuleNotFound
from lethe_server.errors import StateConflict, StateUnavailable
from lethe_server.state.declared import DeclaredState
from worlds import ORDER, FakeStore, World, declared, ref, refs, spec


@pytest.fixture
async def world() -> World:
    """Module a on route ``public``; the files of b and c are there as well."""
    made = World()
    for name in "bc":
        made.store.put_module(fakes.module(name))
    await made.start(declared("a", public="a"))
    return made


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lethe_server.reconciler.WATCH_S", 0.005)
    monkeypatch.setattr("lethe_server.reconciler.FIRST_RETRY_S", 0.01)


def declare(world: World, state: DeclaredState | str | None) -> None:
    """As another server does it, or a person with an editor."""
    store: Any = world.store
    store.shared["text"] = state.model_dump_json() if isinstance(state, DeclaredState) else state


async def eventually(world: World, generation: int) -> None:
    async with asyncio.timeout(5):
        while world.reconciler.served.generation != generation:
            await asyncio.sleep(0.005)


async def test_the_command_line_is_declared_where_nothing_is() -> None:
    world = World()
    await world.start(declared("ab", public="a", raw="b"))
    assert world.store.read() == declared("ab", public="a", raw="b") == world.reconciler.served
    assert world.in_engine() == ["a", "b"]


async def test_what_is_declared_wins_over_the_command_line(caplog: pytest.LogCaptureFixture) -> None:
    first = World()
    await first.start(declared("ab", public="a"))
    await first.point("public", "b")
    restarted = World(FakeStore(first.store.shared))  # type: ignore[attr-defined]
    await restarted.start(declared("ab", public="a"))
    assert restarted.reconciler.served == first.reconciler.served
    assert restarted.reconciler.served.generation == 2
    assert restarted.in_engine() == ["b"]
    assert "other routes than the command line" in caplog.text


async def test_nothing_at_all_is_generation_0_and_can_grow() -> None:
    world = World()
    await world.start(DeclaredState())
    assert (world.store.read(), world.routes.names()) == (None, [])
    await world.reconciler.follow()
    assert world.reconciler.error is None
    await world.changes.add_module(ORDER, "/nowhere/a")
    await world.point("public", "a")
    assert world.reconciler.served.generation == 2


async def test_at_the_start_the_engine_is_filled_and_the_rest_comes_when_asked_for() -> None:
    world = World(limit=2)
    await world.start(declared("abcd", w="a", x="b", y="c", z="d"))
    assert world.in_engine() == ["a", "b"]
    await world.loaded("d")
    assert world.in_engine() == ["b", "d"]


async def test_a_server_does_not_start_with_what_it_can_not_serve() -> None:
    world = World()
    with pytest.raises(InvalidInput, match="--allow-unprotected"):
        await world.start(declared("a", public="base"))
    world = World()
    world.engine.failure = LetheError("changes nothing")
    with pytest.raises(LetheError, match="changes nothing"):
        await world.start(declared("a", public="a"))
    assert not world.reconciler.started


async def test_the_changes_of_others_are_followed(world: World) -> None:
    watching = asyncio.create_task(world.reconciler.watch())
    declare(world, declared("abc", 2, public=spec("b", "c"), other="a"))
    await eventually(world, 2)
    assert world.routes.names() == ["other", "public"]
    assert world.in_engine() == ["a", "b", "c"]
    declare(world, declared("c", 7, public="c"))
    await eventually(world, 7)
    await asyncio.sleep(0.02)
    assert world.in_engine() == ["c"]
    watching.cancel()


async def test_a_person_may_change_the_routes_and_leave_the_generation(world: World) -> None:
    declare(world, declared("abc", 1, public="c"))
    await world.reconciler.follow()
    assert world.reconciler.served.routes == {"public": spec("c")}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("{", "JSON"),
        (declared("az", 2, public="z"), "z@sha256"),
        (declared("a", 2, public="base"), "--allow-unprotected"),
        (None, "nothing is declared"),
    ],
    ids=["broken", "a missing module", "unprotected", "gone"],
)
async def test_what_can_not_be_served_is_told_and_changes_nothing(
    world: World, state: DeclaredState | str | None, said: str
) -> None:
    before = world.reconciler.served
    declare(world, state)
    for _ in range(3):
        await world.reconciler.follow()
        await asyncio.sleep(0.02)
        assert said in (world.reconciler.error or "")
        assert "lethe_state_error 1.0" in world.shown()
    assert world.reconciler.served is before
    assert world.in_engine() == ["a"]
    declare(world, declared("ab", 3, public="b"))
    await world.reconciler.follow()
    assert (world.reconciler.error, world.reconciler.served.generation) == (None, 3)


async def test_what_could_not_be_served_is_tried_again(world: World) -> None:
    declare(world, declared("az", 2, public="z"))
    watching = asyncio.create_task(world.reconciler.watch())
    await asyncio.sleep(0.05)
    assert world.reconciler.declared.generation == 2
    assert world.reconciler.served.generation == 1
    world.store.put_module(fakes.module("z"))
    await eventually(world, 2)
    assert world.reconciler.error is None
    watching.cancel()


async def test_what_a_refused_change_read_is_followed(world: World) -> None:
    declare(world, declared("abc", 2, public="b"))
    with pytest.raises(StateConflict):
        await world.point("public", "c", expected=1)
    assert world.reconciler.served.generation == 1
    await world.reconciler.follow()
    assert world.reconciler.served.routes == {"public": spec("b")}


async def test_an_administrator_can_mend_what_another_broke(world: World) -> None:
    declare(world, declared("abz", 2, public="z"))
    await world.reconciler.follow()
    with pytest.raises(ModuleNotFound):
        await world.point("other", "b")
    await world.point("public", "b")
    assert (world.reconciler.error, world.reconciler.served.generation) == (None, 3)


async def test_a_store_that_can_not_be_reached_is_told_and_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> bool:
        raise StateUnavailable("no route to the bucket")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "changed", unreachable)
        await world.reconciler.follow()
        assert world.reconciler.error == "no route to the bucket"
        with pytest.raises(StateUnavailable):
            await world.point("public", "a")
    await asyncio.sleep(0.02)
    await world.reconciler.follow()
    assert world.reconciler.error is None


async def test_a_module_that_others_removed_stays_while_it_answers(world: World) -> None:
    declare(world, declared("ab", 2, public="b"))
    held = world.resident("a")
    with held.request():
        await world.residents.bring_in(held)
        await world.reconciler.follow()
        declare(world, declared("b", 3, public="b"))
        await world.reconciler.follow()
        await asyncio.sleep(0.1)  # longer than a drain may take
        assert world.in_engine() == ["a", "b"]
        assert world.reconciler.served.generation == 3
    await asyncio.wait_for(world.reconciler.retired(ref("a")), 1)
    assert world.in_engine() == ["b"]


async def test_a_module_that_comes_back_while_it_is_leaving_stays(world: World) -> None:
    held = await world.loaded("a")
    with held.request():
        for generation, modules in ((2, "b"), (3, "ab")):
            declare(world, declared(modules, generation, public="b"))
            await world.reconciler.follow()
    await asyncio.wait_for(world.reconciler.retired(ref("a")), 1)
    assert world.in_engine() == ["a", "b"]


async def test_readers_see_one_state_or_the_other(world: World) -> None:
    seen = set()

    async def look() -> None:
        while True:
            public, other = world.routes.resolve("public", "x"), world.routes.resolve("other", "x")
            seen.add((public and public.modules, other and other.modules))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    for generation, (public, other) in enumerate([("b", "c"), ("c", "b")] * 10, start=2):
        declare(world, declared("abc", generation, public=public, other=other))
        await world.reconciler.follow()
    looking.cancel()
    assert seen == {(refs("a"), None), (refs("b"), refs("c")), (refs("c"), refs("b"))}
