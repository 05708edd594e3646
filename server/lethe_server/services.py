"""What the routes work with."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from prometheus_client import CollectorRegistry

from lethe_server.metrics import Metrics
from lethe_server.modules import ModuleService
from lethe_server.residents import Residents
from lethe_server.routing import RouteTable


@dataclass(frozen=True)
class Services:
    """The parts of one application. engine_registry: where vLLM keeps its metrics."""

    residents: Residents
    routes: RouteTable
    modules: ModuleService
    metrics: Metrics
    engine_registry: CollectorRegistry
    vllm_version: str


def services(request: Request) -> Services:
    """The services of the application that serves ``request``; for FastAPI's ``Depends``."""
    found: Services = request.app.state.services
    return found
