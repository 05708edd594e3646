"""The door and the scope of a request: nothing reaches the engine but what a route admitted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fakes import FakeClient, answer
from lethe_offsets.errors import InvalidInput, LetheError
from lethe_server.auth import Caller, Role
from lethe_server.door import Door
from lethe_server.errors import EngineFull, GenerationFailed, ModelNotFound, NotReady, UnroutedRequest
from lethe_server.residents import Resident
from lethe_server.routing import RouteTable
from lethe_server.scope import Outcome, RequestScope, entered
from worlds import World, declared, ref, refs, spec

CLIENT = Caller("shop", Role.CLIENT)
EVALUATOR = Caller("measurer", Role.EVALUATOR)
ADMIN = Caller("boss", Role.ADMIN)


@pytest.fixture
async def world() -> World:
    """Module a on route ``public``; b in the catalog."""
    made = World()
    await made.start(declared("ab", public="a"))
    return made


@pytest.fixture
def routes(world: World) -> RouteTable:
    return world.routes


def request_of(held: Resident, name: str) -> Any:
    assert held.loaded is not None
    return held.loaded.request(name)


async def drain(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def test_a_routed_request_reaches_the_engine_under_its_reference(routes: RouteTable) -> None:
    client = FakeClient(answer(None), answer())
    with entered(RequestScope(CLIENT, routes)) as scope:
        pinned = await scope.pin("public")
        assert len(await drain(Door(client).generate("p", None, "1", lora_request=request_of(pinned, "public")))) == 2
    (asked,) = client.asked
    assert (asked.lora_name, asked.lora_int_id) == (pinned.ref, 1)
    assert scope.outcome is Outcome.FINISHED
    assert client.closed == 1


async def test_base_is_answered_without_adapter_for_an_admin_only(routes: RouteTable) -> None:
    client = FakeClient(answer())
    with entered(RequestScope(ADMIN, routes)) as scope:
        await scope.pin("base")
        await drain(Door(client).generate("p", None, "1"))
    assert client.asked == [None]
    with entered(RequestScope(CLIENT, routes)) as scope, pytest.raises(ModelNotFound):
        await scope.pin("base")


def test_nothing_passes_outside_of_a_request() -> None:
    client = FakeClient(answer())
    with pytest.raises(UnroutedRequest):
        Door(client).generate("p", None, "1")
    assert not client.asked


def test_nothing_passes_before_the_request_is_routed(routes: RouteTable) -> None:
    with entered(RequestScope(ADMIN, routes)), pytest.raises(UnroutedRequest, match="not routed"):
        Door(FakeClient(answer())).generate("p", None, "1")


async def test_only_the_module_it_was_routed_to_passes(world: World, routes: RouteTable) -> None:
    door = Door(FakeClient(answer()))
    a, b = await world.loaded("a"), await world.loaded("b")
    with entered(RequestScope(CLIENT, routes)) as scope:
        await scope.pin("public")
        for wrong in (None, request_of(b, "public"), request_of(a, "other"), request_of(a, a.ref)):
            with pytest.raises(UnroutedRequest):
                door.generate("p", None, "1", lora_request=wrong)
    with entered(RequestScope(ADMIN, routes)) as scope:
        await scope.pin("base")
        with pytest.raises(UnroutedRequest):
            door.generate("p", None, "1", lora_request=request_of(a, "base"))


async def test_a_generation_can_not_outlive_its_request(routes: RouteTable) -> None:
    client = FakeClient(answer())
    with entered(RequestScope(CLIENT, routes)) as scope:
        stream = Door(client).generate("p", None, "1", lora_request=request_of(await scope.pin("public"), "public"))
    with pytest.raises(UnroutedRequest):
        await drain(stream)
    assert not client.asked


@pytest.mark.parametrize("name", ["encode", "add_lora", "collective_rpc", "engine_core", "add_request", "sleep"])
def test_no_other_way_to_the_engine(name: str) -> None:
    with pytest.raises(AttributeError, match="does not pass"):
        getattr(Door(FakeClient()), name)


def test_what_serving_reads_passes() -> None:
    assert Door(FakeClient()).errored is False


async def test_an_error_of_the_engine_is_never_an_answer(routes: RouteTable) -> None:
    client = FakeClient(answer(None), answer("error"))
    with entered(RequestScope(CLIENT, routes)) as scope:
        stream = Door(client).generate("p", None, "1", lora_request=request_of(await scope.pin("public"), "public"))
        await anext(stream)
        with pytest.raises(GenerationFailed):
            await anext(stream)
    assert scope.outcome is Outcome.ERROR
    assert client.closed == 1


async def test_the_first_name_pins_the_request_whatever_the_routes_do(world: World, routes: RouteTable) -> None:
    with entered(RequestScope(CLIENT, routes)) as scope:
        first = await scope.pin("public")
        await world.point("public", "b")
        assert await scope.pin("public") is first
        with pytest.raises(UnroutedRequest):
            await scope.pin("other")
    with entered(RequestScope(CLIENT, routes)) as later:
        assert await later.pin("public") is world.resident("b")


async def test_tasks_of_a_request_share_its_scope(routes: RouteTable) -> None:
    client = FakeClient(answer())
    with entered(RequestScope(CLIENT, routes)) as scope:
        request = request_of(await scope.pin("public"), "public")
        streams = [Door(client).generate("p", None, str(i), lora_request=request) for i in range(3)]
        await asyncio.gather(*(asyncio.create_task(drain(stream)) for stream in streams))
    assert len(client.asked) == 3


async def test_an_abandoned_stream_holds_the_module_until_the_engine_let_go(routes: RouteTable) -> None:
    client = FakeClient(answer(None), answer(None), answer())
    with entered(RequestScope(CLIENT, routes)) as scope:
        pinned = await scope.pin("public")
        stream = Door(client).generate("p", None, "1", lora_request=request_of(pinned, "public"))
        await anext(stream)
    assert scope.outcome is Outcome.ABORTED
    assert pinned.num_requests == 0
    assert not await pinned.drained(0.01)
    await stream.aclose()
    assert await pinned.drained(0)
    assert scope.outcome is Outcome.ABORTED


async def test_the_worst_end_counts(routes: RouteTable) -> None:
    with entered(RequestScope(CLIENT, routes)) as scope:
        request = request_of(await scope.pin("public"), "public")
        await drain(Door(FakeClient(answer())).generate("p", None, "1", lora_request=request))
        with pytest.raises(GenerationFailed):
            await drain(Door(FakeClient(answer("error"))).generate("p", None, "2", lora_request=request))
        await drain(Door(FakeClient(answer())).generate("p", None, "3", lora_request=request))
    assert scope.outcome is Outcome.ERROR


@pytest.mark.parametrize(("model", "guarded"), [("public", True), ("base", False)])
async def test_answers_under_a_module_are_watched_for_loops(routes: RouteTable, model: str, guarded: bool) -> None:
    class Guard:
        def watch(self, params: str) -> str:
            return f"{params}, watched"

    class Client(FakeClient):
        def generate(self, prompt: Any, params: Any, *arguments: Any, **options: Any) -> Any:
            assert params == ("params, watched" if guarded else "params")
            return super().generate(prompt, params, *arguments, **options)

    guard: Any = Guard()
    with entered(RequestScope(ADMIN, routes)) as scope:
        pinned = await scope.pin(model)
        request = request_of(pinned, model) if guarded else None
        door = Door(Client(answer(None), answer("repetition")), loops=guard)
        assert len(await drain(door.generate("p", "params", "1", lora_request=request))) == 2
    assert scope.outcome is Outcome.LOOPED


async def test_a_request_that_never_reached_the_engine_has_no_outcome(routes: RouteTable) -> None:
    with entered(RequestScope(CLIENT, routes)) as scope:
        await scope.pin("public")
    assert scope.outcome is None


async def test_a_caller_gets_only_its_models(world: World, routes: RouteTable) -> None:
    await world.point("other", "b")
    bound = Caller("shop", Role.CLIENT, frozenset({"other", "made-up"}))
    told = []
    for name in ("public", "nothing"):
        with entered(RequestScope(bound, routes)) as scope:
            with pytest.raises(ModelNotFound) as caught:
                await scope.pin(name)
            told.append(str(caught.value).replace(name, "NAME"))
    assert told[0] == told[1]
    assert "known: other" in told[0]
    with entered(RequestScope(bound, routes)) as scope:
        assert (await scope.pin("other")).modules == refs("b")


@pytest.mark.parametrize("model", ["public", ref("a"), ref("a")[:18]])
async def test_an_evaluator_chooses_the_strength(world: World, routes: RouteTable, model: str) -> None:
    client = FakeClient(answer())
    with entered(RequestScope(EVALUATOR, routes)) as scope:
        pinned = await scope.pin(model, strength=0.5)
        await drain(Door(client).generate("p", None, "1", lora_request=request_of(pinned, model)))
    assert pinned.modules == refs("a")
    assert client.asked[0].lora_name == f"{ref('a')}*0.5"
    with entered(RequestScope(EVALUATOR, routes)) as scope, pytest.raises(InvalidInput, match="strength"):
        await scope.pin("base", strength=0.5)


async def test_a_client_is_not_told_why_a_model_can_not_answer(world: World, routes: RouteTable) -> None:
    await world.residents.put_out(refs("a"))
    world.engine.failure = LetheError("module a@sha256 changes nothing")
    for caller, error in ((CLIENT, NotReady), (EVALUATOR, LetheError)):
        with entered(RequestScope(caller, routes)) as scope, pytest.raises(error) as caught:
            await scope.pin("public")
        assert ("a@sha256" in str(caught.value)) == caller.may_measure
    assert world.residents.known() == [world.residents.base]


async def test_a_request_that_finds_no_room_holds_nothing(world: World) -> None:
    small = World(limit=1)
    await small.start(declared("ab", public="a"))
    with entered(RequestScope(ADMIN, small.routes)) as scope:
        await scope.pin("public")
        with entered(RequestScope(ADMIN, small.routes)) as other, pytest.raises(EngineFull):
            await other.pin(ref("b"))
    assert all(each.idle and not each.num_requests for each in small.residents.known())


async def test_a_request_whose_module_goes_before_it_came_gets_what_is_routed_then(world: World) -> None:
    await world.residents.put_out(refs("a"))
    await world.loaded("b")
    world.engine.open.clear()
    with entered(RequestScope(CLIENT, world.routes)) as scope:
        pinning = asyncio.create_task(scope.pin("public"))
        await asyncio.sleep(0.01)
        world.routes.flip(declared("b", 2, public="b"))
        world.engine.failure = LetheError("its files are gone")
        world.engine.open.set()
        assert (await pinning).modules == refs("b")


async def test_a_request_that_ends_while_its_module_is_loaded_lets_it_go(world: World) -> None:
    await world.residents.put_out(refs("a"))
    world.engine.open.clear()
    with entered(RequestScope(CLIENT, world.routes)) as scope:
        pinning = asyncio.create_task(scope.pin("public"))
        await asyncio.sleep(0.01)
        pinning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pinning
    held = world.resident("a")
    assert (held.idle, held.num_requests) == (True, 0)
    world.engine.open.set()


async def test_a_shadow_is_drawn_for_its_share_of_requests(world: World) -> None:
    async def drawn(made: Any, strength: float | None = None) -> int:
        await world.point("public", made)
        shadows = []
        for _ in range(400):
            with entered(RequestScope(ADMIN, world.routes)) as scope:
                await scope.pin("public", strength=strength)
                shadows.append(scope.shadow)
        assert all(shadow is None or shadow.modules == refs("b") for shadow in shadows)
        return sum(shadow is not None for shadow in shadows)

    assert await drawn(spec("a")) == 0
    assert await drawn(spec("a", shadow="b")) == 400
    assert 100 < await drawn(spec("a", shadow="b", share=0.5)) < 300
    assert await drawn(spec("a", shadow="b"), strength=0.5) == 0
