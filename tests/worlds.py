"""A server's parts over a fake engine, with modules that exist in memory only."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import SecretStr

import fakes
from fakes import FakeEngine
from lethe_offsets.catalog import check_source
from lethe_offsets.errors import ModuleNotFound
from lethe_offsets.module import Module
from lethe_server import http_errors
from lethe_server.audit.auditor import Auditor, NoAudit
from lethe_server.auth import Keyring
from lethe_server.catalog.prefixes import Allowlist
from lethe_server.changes import Changes, Order
from lethe_server.gate import BodyLimit, Gate
from lethe_server.library import EngineLoader, Library
from lethe_server.metrics import Metrics
from lethe_server.plus_lane import PlusLane
from lethe_server.reconciler import Reconciler, Terms
from lethe_server.residents import Resident, Residents
from lethe_server.routes import admin_details, admin_live, admin_modules, admin_routes, admin_state, health
from lethe_server.routing import RouteTable
from lethe_server.services import Services
from lethe_server.state.declared import DeclaredState, RouteSpec, Shadow, Source, Target
from lethe_server.state.store import MemoryStore, StateStore

ADMIN = {"authorization": "Bearer admin"}
CLIENT = {"authorization": "Bearer client"}
ORDER = Order("tester")
SOURCES = Path("/nowhere")


def ref(name: str) -> str:
    return fakes.module(name).ref


def spec(*groups: str, shadow: str | None = None, share: float = 1.0) -> RouteSpec:
    """Targets of equal weight, each of them names of modules with ``+`` between them; ``base`` has none."""
    shade = None if shadow is None else Shadow(modules=refs(shadow), share=share)
    return RouteSpec(targets=tuple(Target(modules=refs(group)) for group in groups), shadow=shade)


def refs(group: str) -> tuple[str, ...]:
    return () if group == "base" else tuple(sorted(ref(name) for name in group.split("+")))


def declared(modules: str, generation: int = 1, **routes: str | RouteSpec) -> DeclaredState:
    """A state with modules by one letter each, and routes by public name."""
    return DeclaredState(
        generation=generation,
        catalog={ref(name): Source(ref=ref(name), source=str(SOURCES / name)) for name in modules},
        routes={name: spec(target) if isinstance(target, str) else target for name, target in routes.items()},
    )


class FakeStore(MemoryStore):
    """A state in memory that another server can change: ``shared`` is what all stores of one dictionary see."""

    def __init__(self, shared: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.shared: dict[str, Any] = {"text": None, "modules": {}} if shared is None else shared
        self.seen: str | None = None

    def read(self) -> DeclaredState | None:
        self.seen = self.shared["text"]
        if isinstance(self.seen, str):
            return DeclaredState.model_validate_json(self.seen)
        return None

    def write(self, state: DeclaredState) -> None:
        there = self.shared["text"]
        self._state = None if there is None else DeclaredState.model_validate_json(there)
        super().write(state)
        self.seen = self.shared["text"] = state.model_dump_json()

    def changed(self) -> bool:
        return bool(self.seen != self.shared["text"])

    def put_module(self, module: Module) -> None:
        self.shared["modules"][module.ref] = module

    def get_module(self, ref: str) -> Module:
        if ref not in self.shared["modules"]:
            raise ModuleNotFound(ref, [])
        found: Module = self.shared["modules"][ref]
        return found

    def drop_module(self, ref: str) -> None:
        text = self.shared["text"]
        if text is None or ref not in json.loads(text)["catalog"]:
            self.shared["modules"].pop(ref, None)


class FakeFetcher:
    """Below ``/nowhere`` is every module."""

    def fetch(self, source: str, digest: str | None = None) -> Module:
        return fakes.module(check_source(source, [SOURCES]).name)


class FakeLibrary(Library):
    """Merges modules without files."""

    def _merge(self, modules: Any) -> Module:
        return fakes.module("_".join(module.name for module in modules))


class World:
    """One server. limit: modules in the engine."""

    def __init__(
        self,
        store: StateStore | None = None,
        limit: int = 64,
        terms: Terms | None = None,
        audit: Auditor | None = None,
        wait_s: float = 0.05,
    ) -> None:
        self.engine = FakeEngine()
        engine: Any = self.engine
        fetcher: Any = FakeFetcher()
        self.store = store or FakeStore()
        self.library = FakeLibrary(self.store, SOURCES)
        self.metrics = Metrics(CollectorRegistry())
        self.residents = Residents(EngineLoader(self.library, engine, self.metrics), limit, wait_s)
        self.routes = RouteTable(self.residents)
        self.audit = audit or NoAudit()
        terms = terms or Terms(drain_timeout_s=0.05)
        lane = PlusLane(engine, self.library, self.routes, Allowlist([]), terms.drain_timeout_s)
        parts = (self.residents, self.routes, self.metrics, lane, self.audit)
        self.reconciler = Reconciler(self.store, self.library, *parts, terms)
        self.changes = Changes(self.reconciler, self.store, fetcher, self.residents, self.metrics, self.audit)
        self.metrics.watch(self.residents, self.routes)
        self.metrics.follow(self.reconciler)

    async def start(self, first: DeclaredState) -> None:
        await self.reconciler.start(first, [fakes.module(known.partition("@")[0]) for known in first.catalog])

    async def point(self, model: str, made: str | RouteSpec, expected: int | None = None) -> Any:
        wanted = spec(made) if isinstance(made, str) else made
        return await self.changes.point(Order("tester", expected), model, lambda _: wanted)

    def resident(self, group: str, strength: float | None = None) -> Resident:
        return self.residents.get(refs(group), strength)

    async def loaded(self, group: str) -> Resident:
        """Modules that are in the engine from now on, until they are evicted."""
        held = self.resident(group)
        with held.lease():
            await self.residents.bring_in(held)
        return held

    def in_engine(self) -> list[str]:
        return sorted("+".join(module.name for module in loaded.modules) for loaded in self.engine.held.values())

    def shown(self) -> str:
        return generate_latest(self.metrics.registry).decode()

    def application(self, max_body_bytes: int = 100_000) -> FastAPI:
        """The administration and what guards it; no inference."""
        app = FastAPI(redirect_slashes=False)
        http_errors.install(app)
        shown = (admin_state.router, admin_live.router, admin_details.router, admin_modules.router, admin_routes.router)
        for router in (health.router, *shown):
            app.include_router(router)
        app.add_middleware(BodyLimit, max_bytes=max_body_bytes)
        keyring = Keyring([SecretStr("client")], [SecretStr("admin")])
        app.add_middleware(Gate, keyring=keyring, routes=self.routes, metrics=self.metrics, audit=self.audit)
        app.state.services = Services(
            residents=self.residents,
            routes=self.routes,
            library=self.library,
            reconciler=self.reconciler,
            changes=self.changes,
            audit=self.audit,
            metrics=self.metrics,
            engine_check=self.engine.check,
            engine_registry=CollectorRegistry(),
            vllm_version="0",
        )
        return app

    @cached_property
    def http(self) -> httpx.AsyncClient:
        """An administrator's client."""
        return client_of(self.application(), ADMIN)


def client_of(app: FastAPI, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)
