"""Two servers over one state, driven through the admin API, against a model of what they have to say."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from lethe_server.auth import Caller, Role
from lethe_server.reconciler import Terms
from lethe_server.scope import RequestScope
from lethe_server.state.declared import MAX_HISTORY, DeclaredState
from worlds import FakeStore, World, ref, refs

PLACES = 4
MAX_OPEN = PLACES - 1  # a change needs a place
names = st.sampled_from("abcd")
models = st.sampled_from(["m", "org/n"])
groups = st.lists(names, min_size=1, max_size=2, unique=True).map(sorted)
servers = st.integers(0, 1)
matches = st.sampled_from([None, None, None, "same", "other"])
Spec = tuple[tuple[tuple[tuple[str, ...], float], ...], tuple[tuple[str, ...], float] | None]
"""Targets with weights, and the shadow with its share."""


@dataclass
class Model:
    """What is declared."""

    generation: int = 0
    modules: set[str] = field(default_factory=set)
    routes: dict[str, Spec] = field(default_factory=dict)
    history: dict[str, list[Spec]] = field(default_factory=dict)

    def named(self, name: str) -> list[str]:
        return [model for model, spec in self.routes.items() if name in names_of(spec)]

    def point(self, model: str, spec: Spec) -> None:
        if self.routes.get(model) == spec:
            return
        if model in self.routes:
            self.history[model] = [*self.history.get(model, []), self.routes[model]][-MAX_HISTORY:]
        self.routes[model] = spec
        self.generation += 1


@dataclass(frozen=True)
class Opened:
    """A request under way. answers: the modules that it began with."""

    server: World
    scope: RequestScope
    answers: tuple[str, ...]


def names_of(spec: Spec) -> set[str]:
    targets, shadow = spec
    return {name for group, _ in (*targets, *([shadow] if shadow else [])) for name in group}


def said(route: dict[str, Any]) -> Spec:
    """A route of the API as a spec."""
    shadow = route["shadow"]
    targets = ((_names(target["modules"]), target["weight"]) for target in route["targets"])
    return tuple(targets), None if shadow is None else (_names(shadow["modules"]), shadow["share"])


def said_before(previous: Any) -> Spec | None:
    """What a rollback would bring back, as a spec."""
    if isinstance(previous, str):
        return ((_names([previous]), 1.0),), None
    return None if previous is None else said(previous)


def alike(spec: Spec) -> Spec:
    """Of one target alone the weight says nothing, and isn't told."""
    targets, shadow = spec
    alone = len(targets) == 1 and len(targets[0][0]) == 1 and shadow is None
    return (((targets[0][0], 1.0),), None) if alone else spec


def _names(full: list[str]) -> tuple[str, ...]:
    return tuple(sorted(each.partition("@")[0] for each in full))


class Servers(RuleBasedStateMachine):
    opened = Bundle("opened")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.num_open = 0
        self.behind: set[int] = set()  # servers that don't follow for a while
        self.runner = asyncio.Runner()
        self.shared: dict[str, Any] = {"text": None, "modules": {}}

    def teardown(self) -> None:
        self.runner.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def make(self) -> World:
        world = World(FakeStore(self.shared), PLACES, Terms(drain_timeout_s=0.005))
        await world.start(DeclaredState())
        return world

    @initialize()
    def begin(self) -> None:
        self.worlds = [self.run(self.make()) for _ in range(2)]
        for name in "abc":
            self.add(0, name, None)
        for name in "ab":
            self.point(1, "m", [[name]], 1.0, None, True, None)

    def ask(self, server: int, method: str, path: str, match: str | None = None, **options: Any) -> httpx.Response:
        async def asking() -> httpx.Response:
            return await self.worlds[server].http.request(method, path, headers=headers, **options)

        generations = {"same": self.model.generation, "other": self.model.generation + 1}
        headers = {} if match is None else {"If-Match": f'"{generations[match]}"'}
        response: httpx.Response = self.run(asking())
        return response

    def expect(self, response: httpx.Response, status: int, match: str | None) -> bool:
        """Whether the change was made."""
        if match == "other":
            status = 412
        assert response.status_code == status, (status, response.text)
        return response.is_success

    @rule(server=servers, name=names, match=matches)
    def add(self, server: int, name: str, match: str | None) -> None:
        response = self.ask(server, "POST", "/admin/modules", match, json={"source": f"/nowhere/{name}"})
        if self.expect(response, 200 if name in self.model.modules else 201, match):
            assert response.json()["ref"] == ref(name)
            self.model.generation += name not in self.model.modules
            self.model.modules.add(name)

    @rule(
        server=servers,
        model=models,
        wanted=st.lists(groups, min_size=1, max_size=3, unique_by=tuple),
        weight=st.sampled_from([1.0, 95.0]),
        shadow=st.none() | groups,
        short=st.booleans(),
        match=matches,
    )
    def point(
        self,
        server: int,
        model: str,
        wanted: list[list[str]],
        weight: float,
        shadow: list[str] | None,
        short: bool,
        match: str | None,
    ) -> None:
        def shown(group: list[str]) -> list[str]:
            return group if short else list(map(ref, group))

        body: dict[str, Any] = {"targets": [{"modules": shown(group), "weight": weight} for group in wanted]}
        if shadow is not None:
            body["shadow"] = {"modules": shown(shadow), "share": 0.25}
        spec = tuple((tuple(group), weight) for group in wanted), None if shadow is None else (tuple(shadow), 0.25)
        known = names_of(spec) <= self.model.modules
        if self.expect(
            self.ask(server, "PUT", f"/admin/routes/{model}", match, json=body), 200 if known else 404, match
        ):
            self.model.point(model, spec)

    @rule(server=servers, model=models, match=matches)
    def roll_back(self, server: int, model: str, match: str | None) -> None:
        earlier = self.model.history.get(model, [])
        status = 404 if model not in self.model.routes else 400 if not earlier else 200
        if status == 200 and not names_of(earlier[-1]) <= self.model.modules:
            status = 404
        if self.expect(self.ask(server, "POST", f"/admin/routes/{model}/rollback", match), status, match):
            self.model.routes[model], earlier[-1] = earlier[-1], self.model.routes[model]
            self.model.generation += 1

    @rule(server=servers, model=models, match=matches)
    def delete_route(self, server: int, model: str, match: str | None) -> None:
        status = 200 if model in self.model.routes else 404
        if self.expect(self.ask(server, "DELETE", f"/admin/routes/{model}", match), status, match):
            del self.model.routes[model]
            self.model.history.pop(model, None)
            self.model.generation += 1

    @rule(server=servers, name=names, match=matches)
    def delete_module(self, server: int, name: str, match: str | None) -> None:
        busy = any(not each.idle for each in self.worlds[server].residents.using(ref(name)))
        status = 404 if name not in self.model.modules else 409 if self.model.named(name) or busy else 204
        if self.expect(self.ask(server, "DELETE", f"/admin/modules/{ref(name)}", match), status, match):
            self.model.modules.discard(name)
            self.model.generation += 1
            assert not self.worlds[server].residents.using(ref(name))

    @rule(server=servers)
    def restart(self, server: int) -> None:
        if not self.num_open:
            self.worlds[server] = self.run(self.make())

    @rule(target=opened, server=servers, model=models, user=st.sampled_from(["x", "y", "z"]))
    def open_request(self, server: int, model: str, user: str) -> Any:
        if self.num_open >= MAX_OPEN or model not in self.model.routes:
            return multiple()
        world = self.worlds[server]
        self.run(world.reconciler.follow())
        scope = RequestScope(Caller("client", Role.CLIENT), world.routes)
        resident = self.run(scope.pin(model, user))
        assert resident.modules in {refs("+".join(group)) for group, _ in self.model.routes[model][0]}
        self.num_open += 1
        return Opened(world, scope, resident.modules)

    @rule(request=consumes(opened))
    def close_request(self, request: Opened) -> None:
        request.scope.close()
        self.num_open -= 1
        self.run(asyncio.sleep(0))

    @rule(request=opened)
    def an_open_request_keeps_its_version(self, request: Opened) -> None:
        resident = request.scope.resident
        assert resident is not None
        assert resident.modules == request.answers
        assert resident.loaded in request.server.engine.held.values()

    @rule(server=servers)
    def look_away(self, server: int) -> None:
        self.behind.add(server)

    @rule()
    def catch_up(self) -> None:
        self.behind.clear()

    @invariant()
    def those_who_look_say_what_is_declared(self) -> None:
        for server, world in enumerate(self.worlds if hasattr(self, "worlds") else []):
            assert len(world.engine.held) <= PLACES
            if server in self.behind:
                continue
            self.run(world.reconciler.follow())
            assert self.ask(server, "GET", "/admin/state").json() == {
                "generation": self.model.generation,
                "observed_generation": self.model.generation,
                "plus_model": None,
                "error": None,
                "models": len(self.model.routes),
                "modules": len(self.model.modules),
            }
            routes = self.ask(server, "GET", "/admin/routes").json()
            assert {route["model"]: said(route) for route in routes} == self.model.routes
            for route in routes:
                earlier = self.model.history.get(route["model"])
                assert said_before(route["previous"]) == (alike(earlier[-1]) if earlier else None)
            modules = self.ask(server, "GET", "/admin/modules").json()
            assert [each["name"] for each in modules] == sorted(self.model.modules)
            for each in modules:
                assert each["active_on"] == sorted(self.model.named(each["name"]))
                assert each["status"] in ("declared", "resident")

    @invariant()
    def what_is_in_flight_is_what_is_open(self) -> None:
        if hasattr(self, "worlds"):
            known = [each for world in self.worlds for each in world.residents.known()]
            assert sum(each.num_requests for each in known) == self.num_open
            assert sum(not each.idle for each in known) <= self.num_open


def test_whatever_is_asked_of_two_servers() -> None:
    checks = list(HealthCheck)
    run_state_machine_as_test(
        Servers,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=checks,
        ),
    )
