"""Every metric of Lethe's own. Label values come from the catalog and the route table, never from a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lethe_offsets.errors import LetheError
from lethe_server.residents import Residents
from lethe_server.routing import RouteTable
from lethe_server.scope import Outcome, RequestScope

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
        base = self._residents.base
        running = {base.label: base.num_requests}
        for resident in self._residents.modules():
            running[resident.label] = running.get(resident.label, 0) + resident.num_requests
            modules.add_metric([resident.label, resident.ref.partition("@")[2]], 1)
        for label, count in running.items():
            inflight.add_metric([label], count)
        for model, resident in self._routes.items():
            routes.add_metric([model, resident.label], 1)
        yield from (modules, inflight, routes)
