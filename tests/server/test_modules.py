"""Loading, flipping and deleting modules, over an engine that loads any module at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import fakes
from fakes import FakeEngine
from lethe_offsets.errors import InvalidInput, LetheError, ModuleNotFound, SourceForbidden
from lethe_offsets.module import Module
from lethe_server.errors import DrainTimeout, ModuleBusy, NotReady
from lethe_server.metrics import Metrics
from lethe_server.modules import ModuleService
from lethe_server.residents import Residents
from lethe_server.routing import RouteTable


class World:
    def __init__(self, source: Path) -> None:
        self.engine = FakeEngine()
        self.residents = Residents()
        self.routes = RouteTable(self.residents)
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.watch(self.residents, self.routes)
        engine: Any = self.engine
        self.service = ModuleService(engine, self.residents, self.routes, self.metrics, [source], 0.05)

    def shown(self) -> str:
        return generate_latest(self.metrics.registry).decode()


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A server with module ``a`` on route ``public``; ``tmp_path/b`` can be loaded."""
    monkeypatch.setattr(Module, "open", lambda path: fakes.module(Path(path).name))
    made = World(tmp_path)
    a = fakes.module("a")
    await made.service.start([a], {"public": a.ref, "raw": None})
    return made


async def test_start_opens_the_routes(world: World) -> None:
    assert [(name, target.ref) for name, target in world.routes.items()] == [
        ("public", world.residents.get("a").ref),
        ("raw", "base"),
    ]
    await world.service.check_ready()


async def test_not_ready_before_the_start_or_after_the_engines_death(world: World, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="being loaded"):
        await World(tmp_path).service.check_ready()
    world.engine.dead = RuntimeError("no heartbeat")
    with pytest.raises(NotReady, match="no heartbeat"):
        await world.service.check_ready()


async def test_loading_is_idempotent_and_changes_no_route(world: World, tmp_path: Path) -> None:
    first, new = await world.service.load(str(tmp_path / "b"))
    again, new_again = await world.service.load(str(tmp_path / "b"))
    assert (first is again, new, new_again) == (True, True, False)
    assert world.routes.names() == ["public", "raw"]
    assert "lethe_module_load_seconds_count 2.0" in world.shown()


async def test_the_same_module_loaded_twice_at_once(world: World, tmp_path: Path) -> None:
    both = await asyncio.gather(*(world.service.load(str(tmp_path / "b")) for _ in range(2)))
    assert both[0][0] is both[1][0]
    assert sorted(new for _, new in both) == [False, True]


@pytest.mark.parametrize("source", ["/etc", "../elsewhere", ""])
async def test_sources_outside_of_the_allowed_directories(world: World, source: str) -> None:
    with pytest.raises(SourceForbidden):
        await world.service.load(source)


async def test_a_module_that_fails_to_load_leaves_nothing(world: World, tmp_path: Path) -> None:
    world.engine.failure = LetheError("the module changes nothing")
    with pytest.raises(LetheError, match="changes nothing"):
        await world.service.load(str(tmp_path / "b"))
    assert len(world.residents.modules()) == 1


async def test_a_swap(world: World, tmp_path: Path) -> None:
    a = world.residents.get("a")
    b, _ = await world.service.load(str(tmp_path / "b"))
    assert await world.service.flip("public", b.ref) == (b, a)
    assert world.routes.resolve("public", admin=False) is b
    await world.service.remove(a.ref)
    assert world.engine.unloaded == [a.ref]
    shown = world.shown()
    assert 'lethe_route_info{model="public",module="b"} 1.0' in shown
    assert 'lethe_swaps_total{result="flipped"} 1.0' in shown
    assert 'module="a"' not in shown


async def test_a_flip_can_make_a_new_name(world: World) -> None:
    assert (await world.service.flip("org/new", "a"))[1] is None
    assert world.routes.naming(world.residents.get("a")) == ["org/new", "public"]


@pytest.mark.parametrize(
    ("model", "ref", "error"),
    [
        ("base", "a", InvalidInput),
        ("a..b", "a", InvalidInput),
        ("public", "b", ModuleNotFound),
        ("public", "base", ModuleNotFound),
    ],
)
async def test_flips_that_can_not_be(world: World, model: str, ref: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await world.service.flip(model, ref)
    assert world.routes.names() == ["public", "raw"]
    assert 'lethe_swaps_total{result="refused"} 1.0' in world.shown()


async def test_a_module_with_a_route_can_not_be_deleted(world: World) -> None:
    with pytest.raises(ModuleBusy, match="public"):
        await world.service.remove("a")


async def test_deleting_what_is_not_there(world: World) -> None:
    with pytest.raises(ModuleNotFound):
        await world.service.remove("b")


async def test_a_deletion_waits_for_requests(world: World, tmp_path: Path) -> None:
    b, _ = await world.service.load(str(tmp_path / "b"))
    with b.request():
        deleting = asyncio.create_task(world.service.remove("b"))
        await asyncio.sleep(0.01)
        assert b.closing
        assert not world.engine.unloaded
        with pytest.raises(ModuleBusy):
            await world.service.load(str(tmp_path / "b"))
        with pytest.raises(ModuleBusy):
            await world.service.flip("public", "b")
        with pytest.raises(ModuleBusy):
            await world.service.remove("b")
    await deleting
    assert world.engine.unloaded == [b.ref]


async def test_a_deletion_that_takes_too_long_loses_nothing(world: World, tmp_path: Path) -> None:
    b, _ = await world.service.load(str(tmp_path / "b"))
    with b.request(), pytest.raises(DrainTimeout, match="1 requests"):
        await world.service.remove("b")
    assert world.residents.get("b") is b
    assert not b.closing
    assert not world.engine.unloaded
    await world.service.remove("b")
    assert world.engine.unloaded == [b.ref]


async def test_other_changes_do_not_wait_for_a_deletion(world: World, tmp_path: Path) -> None:
    b, _ = await world.service.load(str(tmp_path / "b"))
    with b.request():
        deleting = asyncio.create_task(world.service.remove("b"))
        await asyncio.sleep(0)
        await asyncio.wait_for(world.service.flip("public", "a"), 0.04)
    await deleting
