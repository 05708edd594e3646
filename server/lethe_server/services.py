"""What the routes work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request
from prometheus_client import CollectorRegistry

from lethe_server.audit.auditor import Auditor
from lethe_server.changes import Changes
from lethe_server.errors import NotReady
from lethe_server.library import Library
from lethe_server.metrics import Metrics
from lethe_server.reconciler import Reconciler
from lethe_server.residents import Residents
from lethe_server.routing import RouteTable


@dataclass(frozen=True)
class Services:
    """The parts of one application.

    engine_check: raises EngineDied. engine_registry: where vLLM keeps its metrics.
    """

    residents: Residents
    routes: RouteTable
    library: Library
    reconciler: Reconciler
    changes: Changes
    audit: Auditor
    metrics: Metrics
    engine_check: Callable[[], Awaitable[None]]
    engine_registry: CollectorRegistry
    vllm_version: str

    async def check_ready(self) -> None:
        """Raises EngineDied, and NotReady with the reason: also while something else is declared than what is served.

        A module is resident only once its probe in the engine has passed.
        """
        if not self.reconciler.started:
            raise NotReady("modules are still being loaded")
        if not self.reconciler.caught_up:
            declared, served = self.reconciler.declared, self.reconciler.served
            why = f": {self.reconciler.error}" if self.reconciler.error else ""
            raise NotReady(f"generation {declared.generation} is declared, {served.generation} is served{why}")
        if self.reconciler.lane.error:
            raise NotReady(self.reconciler.lane.error)
        await self.engine_check()


def services(request: Request) -> Services:
    """The services of the application that serves ``request``; for FastAPI's ``Depends``."""
    found: Services = request.app.state.services
    return found
