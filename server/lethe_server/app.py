"""The application: its parts, its layers, its paths, and what happens when it starts and stops."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from lethe_offsets.module import Module
from lethe_server import http_errors, options
from lethe_server.auth import Keyring
from lethe_server.door import Door
from lethe_server.engine import openai, paths
from lethe_server.engine.parsers import load_parsers
from lethe_server.engine.service import OffsetEngine
from lethe_server.gate import BodyLimit, Gate
from lethe_server.metrics import Metrics
from lethe_server.modules import ModuleService
from lethe_server.residents import Residents
from lethe_server.routes import admin_modules, admin_routes, docs, health, metrics, models
from lethe_server.routing import RouteTable, plan_routes
from lethe_server.services import Services
from lethe_server.settings import Settings

ROUTERS = (health.router, metrics.router, docs.router, models.router, admin_modules.router, admin_routes.router)
log = logging.getLogger(__name__)


def create_app(settings: Settings, engine: OffsetEngine) -> FastAPI:
    """The application over a started engine, which it closes when it stops.

    Its lifespan raises what a module that can't be loaded raises. Raises InvalidInput for settings that can't be.
    """
    using = _services(settings, engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            modules = [Module.open(path) for path in settings.modules]
            routes = plan_routes(settings.routes, settings.public_name, modules, settings.allow_unprotected)
            await using.modules.start(modules, routes)
            yield
        finally:
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
    openai.install_serving(app.state, Door(engine.client), using.routes, chosen.frontend, log_requests)
    openai.install_error_handlers(app)
    http_errors.install(app)
    for router in (paths.served_paths(), *ROUTERS):
        app.include_router(router)
    _add_layers(app, settings, using)
    return app


def _services(settings: Settings, engine: OffsetEngine) -> Services:
    residents = Residents()
    routes = RouteTable(residents)
    counted = Metrics(CollectorRegistry())
    counted.watch(residents, routes)
    changes = ModuleService(engine, residents, routes, counted, settings.sources, settings.drain_timeout_s)
    return Services(residents, routes, changes, counted, openai.engine_registry(), openai.VLLM_VERSION)


def _add_layers(app: FastAPI, settings: Settings, using: Services) -> None:
    """The last one added is the first to see a request."""
    if not settings.api_keys:
        log.warning("no API key is configured: inference is open to everyone who reaches this server")
    if not settings.admin_keys:
        log.warning("no admin key is configured: modules and routes can't be changed while the server runs")
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    keyring = Keyring(settings.api_keys, settings.admin_keys)
    app.add_middleware(Gate, keyring=keyring, routes=using.routes, metrics=using.metrics)
