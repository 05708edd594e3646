"""Among several servers over one state, only those are ready that serve what is declared."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import fakes
from lethe_offsets.errors import LetheError
from lethe_server.errors import StateUnavailable
from lethe_server.state.declared import DeclaredState
from worlds import ORDER, World, declared


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lethe_server.reconciler.FIRST_RETRY_S", 0.01)


async def two_modules() -> World:
    """Module a on route ``public``; the files of b are there as well."""
    world = World()
    world.store.put_module(fakes.module("b"))
    await world.start(declared("a", public="a"))
    return world


def declare(world: World, state: DeclaredState | str) -> None:
    """As another server does it, or a person with an editor."""
    store: Any = world.store
    store.shared["text"] = state if isinstance(state, str) else state.model_dump_json()


async def ready(world: World) -> tuple[int, str]:
    answer = await world.http.get("/ready")
    return answer.status_code, answer.text


async def test_a_server_that_is_behind_is_not_ready_until_it_has_followed() -> None:
    world = await two_modules()
    assert (await ready(world))[0] == 200
    world.engine.failure = LetheError("the adapter has no effect")
    declare(world, declared("ab", 2, public="b"))
    await world.reconciler.follow()
    status, text = await ready(world)
    assert status == 503
    assert "generation 2 is declared, 1 is served: the adapter has no effect" in text
    world.engine.failure = None
    async with asyncio.timeout(5):
        while (await ready(world))[0] != 200:
            await world.reconciler.follow()  # tries again after a pause
            await asyncio.sleep(0.01)
    assert await ready(world) == (200, '{"status":"ready"}')


async def test_other_routes_under_the_same_generation_count_too() -> None:
    world = await two_modules()
    world.engine.failure = LetheError("the adapter has no effect")
    declare(world, declared("ab", 1, public="b"))
    await world.reconciler.follow()
    assert (await ready(world))[0] == 503


async def test_what_can_not_be_read_declares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losing the store must not take every server out of service at once."""
    world = await two_modules()
    declare(world, "{")
    await world.reconciler.follow()
    assert world.reconciler.error is not None
    assert (await ready(world))[0] == 200

    def unreachable() -> bool:
        raise StateUnavailable("the bucket is gone")

    monkeypatch.setattr(world.store, "changed", unreachable)
    await world.reconciler.follow()
    assert world.reconciler.error is not None
    assert (await ready(world))[0] == 200


async def test_a_change_of_ones_own_never_shows() -> None:
    world = await two_modules()
    await world.changes.add_module(ORDER, "/nowhere/b")
    await world.point("public", "b")
    assert (await ready(world))[0] == 200
