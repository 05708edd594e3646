"""The application: its parts, its layers, its paths, and what happens when it starts and stops."""

from __future__ import annotations

import asyncio
import logging
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from lethe_server import http_errors, options
from lethe_server.access_log import AccessLog
from lethe_server.audit.auditor import Auditor, NoAudit
from lethe_server.audit.log import AuditLog
from lethe_server.auth import Keyring
from lethe_server.catalog.fetch import Fetcher
from lethe_server.catalog.prefixes import Allowlist
from lethe_server.changes import Changes
from lethe_server.door import Door
from lethe_server.engine import openai, paths
from lethe_server.engine.loops import LoopGuard
from lethe_server.engine.parsers import load_parsers
from lethe_server.engine.service import OffsetEngine
from lethe_server.gate import BodyLimit, Gate
from lethe_server.keys_file import KeysFile
from lethe_server.library import EngineLoader, Library
from lethe_server.metrics import Metrics
from lethe_server.offset_metrics import OffsetMetrics
from lethe_server.plus_lane import PlusLane
from lethe_server.ports import AdminPort
from lethe_server.reconciler import Reconciler, Terms
from lethe_server.residents import Residents
from lethe_server.routes import (
    admin_audit,
    admin_details,
    admin_live,
    admin_modules,
    admin_routes,
    admin_state,
    console,
    docs,
    health,
    metrics,
    models,
)
from lethe_server.routing import RouteTable
from lethe_server.services import Services
from lethe_server.settings import Settings
from lethe_server.shadow import ShadowRunner
from lethe_server.state.first import read_first
from lethe_server.state.store import MemoryStore, StateStore, open_store

ADMIN = (
    admin_state.router,
    admin_live.router,
    admin_details.router,
    admin_modules.router,
    admin_routes.router,
    admin_audit.router,
)
ROUTERS = (health.router, metrics.router, docs.router, models.router, *ADMIN)
log = logging.getLogger(__name__)


def create_app(settings: Settings, engine: OffsetEngine) -> FastAPI:
    """The application over a started engine, which it closes when it stops.

    Its lifespan raises what a module that can't be loaded raises. Raises InvalidInput for settings that can't be.
    """
    offsets = OffsetMetrics(engine.spec.max_modules_per_batch, engine.read)
    using = _services(settings, engine, offsets)
    shadows = ShadowRunner(engine.client, using.residents, using.metrics.shadows)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await using.reconciler.start(*read_first(settings))
            watching = [asyncio.create_task(each) for each in (using.reconciler.watch(), offsets.follow())]
            yield
            for task in watching:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await shadows.close()
            await using.changes.close()
        finally:
            using.library.close()
            using.audit.close()
            await engine.close()

    app = FastAPI(
        title="Lethe",
        version=version("lethe-server"),
        summary="An OpenAI-compatible server for a large model that forgets.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.services = using
    chosen = options.parse(settings.engine)
    load_parsers(chosen)
    log_requests = bool(chosen.engine.get("enable_log_requests"))
    loops = LoopGuard(settings.loop_tokens, settings.loop_count) if settings.loop_tokens else None
    door = Door(engine.client, shadows, using.metrics, loops)
    openai.install_serving(app.state, door, using.routes, chosen.frontend, log_requests)
    openai.install_error_handlers(app)
    http_errors.install(app)
    for router in (paths.served_paths(), *ROUTERS, *([console.router] if settings.console else [])):
        app.include_router(router)
    _add_layers(app, settings, using, chosen.frontend)
    return app


def open_state(settings: Settings) -> StateStore:
    """Where what is declared is kept. Raises StateUnavailable."""
    return MemoryStore() if settings.state_dir is None else open_store(settings.state_dir, settings.cache / "modules")


def open_audit(settings: Settings) -> Auditor:
    """The record of changes. Raises InvalidInput for a file that is no sound log."""
    return NoAudit() if settings.audit_log is None else AuditLog(settings.audit_log)


def _services(settings: Settings, engine: OffsetEngine, offsets: OffsetMetrics) -> Services:
    store = open_state(settings)
    fetcher = Fetcher(settings.sources, settings.cache / "modules", settings.trusted_keys)
    merges = settings.max_offsets_per_request == 1
    library = Library(store, settings.cache, settings.trusted_keys, merges)
    counted = Metrics(CollectorRegistry(), offsets)
    residents = Residents(EngineLoader(library, engine, counted), settings.max_resident_modules)
    routes = RouteTable(residents)
    audit = open_audit(settings)
    terms = Terms(settings.allow_unprotected, settings.drain_timeout_s)
    lane = PlusLane(engine, library, routes, Allowlist(settings.sources), terms.drain_timeout_s)
    reconciler = Reconciler(store, library, residents, routes, counted, lane, audit, terms)
    changes = Changes(reconciler, store, fetcher, residents, counted, audit)
    counted.watch(residents, routes)
    counted.follow(reconciler, lambda: not engine.client.errored)
    return Services(
        residents=residents,
        routes=routes,
        library=library,
        reconciler=reconciler,
        changes=changes,
        audit=audit,
        metrics=counted,
        engine_check=engine.check,
        engine_registry=openai.engine_registry(),
        vllm_version=openai.VLLM_VERSION,
    )


def _add_layers(app: FastAPI, settings: Settings, using: Services, frontend: Namespace) -> None:
    """The last one added is the first to see a request."""
    keys_file = None if settings.keys_file is None else KeysFile(settings.keys_file)
    keyring = Keyring(settings.api_keys, settings.admin_keys, keys_file, settings.client_max_logprobs)
    if not keyring.needs_key:
        log.warning("no API key is configured: inference is open to everyone who reaches this server")
    if not keyring.has_admin:
        log.warning("no admin key is configured: modules and routes can't be changed while the server runs")
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(Gate, keyring=keyring, routes=using.routes, metrics=using.metrics, audit=using.audit)
    if settings.admin_port is not None:
        app.add_middleware(AdminPort, port=settings.admin_port)
    app.add_middleware(AccessLog, metrics=using.metrics, lines=not frontend.disable_uvicorn_access_log)
