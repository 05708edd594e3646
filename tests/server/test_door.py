"""The door and the scope of a request: nothing reaches the engine but what a route admitted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fakes import FakeClient, answer
from lethe_server.auth import Caller
from lethe_server.door import Door
from lethe_server.errors import GenerationFailed, ModelNotFound, UnroutedRequest
from lethe_server.residents import Resident, Residents
from lethe_server.routing import RouteTable
from lethe_server.scope import Outcome, RequestScope, entered


@pytest.fixture
def routes(residents: Residents) -> RouteTable:
    table = RouteTable(residents)
    table.point("public", residents.get("a"))
    return table


def request_of(held: Resident, name: str) -> Any:
    assert held.loaded is not None
    return held.loaded.request(name)


async def drain(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def test_a_routed_request_reaches_the_engine_under_its_reference(routes: RouteTable) -> None:
    client = FakeClient(answer(None), answer())
    with entered(RequestScope(Caller.CLIENT, routes)) as scope:
        pinned = scope.pin("public")
        assert len(await drain(Door(client).generate("p", None, "1", lora_request=request_of(pinned, "public")))) == 2
    (asked,) = client.asked
    assert (asked.lora_name, asked.lora_int_id) == (pinned.ref, 1)
    assert scope.outcome is Outcome.FINISHED
    assert client.closed == 1


async def test_base_is_answered_without_adapter_for_an_admin_only(routes: RouteTable) -> None:
    client = FakeClient(answer())
    with entered(RequestScope(Caller.ADMIN, routes)) as scope:
        scope.pin("base")
        await drain(Door(client).generate("p", None, "1"))
    assert client.asked == [None]
    with entered(RequestScope(Caller.CLIENT, routes)) as scope, pytest.raises(ModelNotFound):
        scope.pin("base")


def test_nothing_passes_outside_of_a_request() -> None:
    client = FakeClient(answer())
    with pytest.raises(UnroutedRequest):
        Door(client).generate("p", None, "1")
    assert not client.asked


def test_nothing_passes_before_the_request_is_routed(routes: RouteTable) -> None:
    with entered(RequestScope(Caller.ADMIN, routes)), pytest.raises(UnroutedRequest, match="not routed"):
        Door(FakeClient(answer())).generate("p", None, "1")


def test_only_the_module_it_was_routed_to_passes(residents: Residents, routes: RouteTable) -> None:
    door = Door(FakeClient(answer()))
    a, b = residents.modules()
    with entered(RequestScope(Caller.CLIENT, routes)) as scope:
        scope.pin("public")
        for wrong in (None, request_of(b, "public"), request_of(a, "other"), request_of(a, a.ref)):
            with pytest.raises(UnroutedRequest):
                door.generate("p", None, "1", lora_request=wrong)
    with entered(RequestScope(Caller.ADMIN, routes)) as scope:
        scope.pin("base")
        with pytest.raises(UnroutedRequest):
            door.generate("p", None, "1", lora_request=request_of(a, "base"))


async def test_a_generation_can_not_outlive_its_request(routes: RouteTable) -> None:
    client = FakeClient(answer())
    with entered(RequestScope(Caller.CLIENT, routes)) as scope:
        stream = Door(client).generate("p", None, "1", lora_request=request_of(scope.pin("public"), "public"))
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
    with entered(RequestScope(Caller.CLIENT, routes)) as scope:
        stream = Door(client).generate("p", None, "1", lora_request=request_of(scope.pin("public"), "public"))
        await anext(stream)
        with pytest.raises(GenerationFailed):
            await anext(stream)
    assert scope.outcome is Outcome.ERROR
    assert client.closed == 1


async def test_the_first_name_pins_the_request_whatever_the_routes_do(residents: Residents, routes: RouteTable) -> None:
    with entered(RequestScope(Caller.CLIENT, routes)) as scope:
        first = scope.pin("public")
        routes.point("public", residents.get("b"))
        assert scope.pin("public") is first
        with pytest.raises(UnroutedRequest):
            scope.pin("other")
    with entered(RequestScope(Caller.CLIENT, routes)) as later:
        assert later.pin("public") is residents.get("b")


async def test_tasks_of_a_request_share_its_scope(routes: RouteTable) -> None:
    client = FakeClient(answer())
    with entered(RequestScope(Caller.CLIENT, routes)) as scope:
        request = request_of(scope.pin("public"), "public")
        streams = [Door(client).generate("p", None, str(i), lora_request=request) for i in range(3)]
        await asyncio.gather(*(asyncio.create_task(drain(stream)) for stream in streams))
    assert len(client.asked) == 3


async def test_an_abandoned_stream_holds_the_module_until_the_engine_let_go(routes: RouteTable) -> None:
    client = FakeClient(answer(None), answer(None), answer())
    with entered(RequestScope(Caller.CLIENT, routes)) as scope:
        pinned = scope.pin("public")
        stream = Door(client).generate("p", None, "1", lora_request=request_of(pinned, "public"))
        await anext(stream)
    assert scope.outcome is Outcome.ABORTED
    assert pinned.num_requests == 0
    assert not await pinned.drained(0.01)
    await stream.aclose()
    assert await pinned.drained(0)
    assert scope.outcome is Outcome.ABORTED


async def test_the_worst_end_counts(routes: RouteTable) -> None:
    with entered(RequestScope(Caller.CLIENT, routes)) as scope:
        request = request_of(scope.pin("public"), "public")
        await drain(Door(FakeClient(answer())).generate("p", None, "1", lora_request=request))
        with pytest.raises(GenerationFailed):
            await drain(Door(FakeClient(answer("error"))).generate("p", None, "2", lora_request=request))
        await drain(Door(FakeClient(answer())).generate("p", None, "3", lora_request=request))
    assert scope.outcome is Outcome.ERROR


def test_a_request_that_never_reached_the_engine_has_no_outcome(routes: RouteTable) -> None:
    with entered(RequestScope(Caller.CLIENT, routes)) as scope:
        scope.pin("public")
    assert scope.outcome is None
