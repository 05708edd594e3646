"""Every metric of Lethe's own. Label values come from the catalog and the route table, never from a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lethe_offsets.errors import LetheError
from lethe_server.residents import Residents, label
from lethe_server.routing import RouteTable
from lethe_server.scope import Outcome, RequestScope

if TYPE_CHECKING:
    from lethe_server.reconciler import Reconciler

LOAD_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Lethe's metrics on a registry of the caller's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counter(
            "lethe_requests_total",
            "HTTP requests that reached the engine, by how they ended.",
            ["module", "outcome"],
            registry=registry,
        )
        self._load_seconds = Histogram(
            "lethe_module_load_seconds",
            "Time to bring a module into the engine and probe it.",
            buckets=LOAD_BUCKETS_S,
            registry=registry,
        )
        self._swaps = Counter("lethe_swaps_total", "Changes of a route.", ["result"], registry=registry)
        for result in ("flipped", "refused"):
            self._swaps.labels(result=result)

    def watch(self, residents: Residents, routes: RouteTable) -> None:
        """Show the modules and routes as they are whenever the metrics are read."""
        self.registry.register(_Present(residents, routes))

    def follow(self, reconciler: Reconciler) -> None:
        """Show how far the server has followed what is declared."""
        self.registry.register(_Followed(reconciler))

    def count_request(self, request: RequestScope) -> None:
        """Count a request that has ended; one that never reached the engine is not counted."""
        if request.resident is not None and request.outcome is not None:
            self._requests.labels(module=request.resident.label, outcome=request.outcome.value).inc()

    def loaded(self, seconds: float) -> None:
        self._load_seconds.observe(seconds)

    @contextmanager
    def swap(self) -> Iterator[None]:
        """A change of a route within the block, refused when it raises a LetheError."""
        try:
            yield
        except LetheError:
            self._swaps.labels(result="refused").inc()
            raise
        self._swaps.labels(result="flipped").inc()

    def forget(self, module: str) -> None:
        """Remove the series of a module that is gone."""
        for outcome in Outcome:
            self._requests.remove_by_labels({"module": module, "outcome": outcome.value})


class _Present(Collector):
    """Gauges read from the residents and the routes themselves: nothing to keep up to date, nothing gone stale."""

    def __init__(self, residents: Residents, routes: RouteTable) -> None:
        self._residents = residents
        self._routes = routes

    def collect(self) -> Iterator[GaugeMetricFamily]:
        modules = GaugeMetricFamily("lethe_module_info", "Modules in the engine.", labels=["module", "digest"])
        inflight = GaugeMetricFamily("lethe_inflight_requests", "HTTP requests being answered.", labels=["module"])
        routes = GaugeMetricFamily("lethe_route_info", "What each public model stands for.", labels=["model", "module"])
        running: dict[str, int] = {}
        present: set[tuple[str, str]] = set()
        for resident in self._residents.known():
            running[resident.label] = running.get(resident.label, 0) + resident.num_requests
            if resident.loaded is not None:
                present.add((resident.label, resident.loaded.module.digest))
        for name, digest in sorted(present):
            modules.add_metric([name, digest], 1)
        for name, count in running.items():
            inflight.add_metric([name], count)
        for model, spec in self._routes.items():
            for name in sorted({label(target.modules) for target in spec.targets}):
                routes.add_metric([model, name], 1)
        yield from (modules, inflight, routes)


class _Followed(Collector):
    """Whether what is declared is what is served."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler

    def collect(self) -> Iterator[GaugeMetricFamily]:
        shown = {
            "lethe_state_generation": ("Generation declared last.", self._reconciler.declared.generation),
            "lethe_state_observed_generation": ("Generation served.", self._reconciler.served.generation),
            "lethe_state_error": ("1 while what is declared can't be served.", self._reconciler.error is not None),
        }
        for name, (text, value) in shown.items():
            yield GaugeMetricFamily(name, text, value=value)
