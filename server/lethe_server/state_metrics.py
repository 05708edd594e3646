"""Gauges read from the server's own state: nothing to keep up to date, nothing gone stale."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lethe_server.residents import Residents, label
from lethe_server.routing import RouteTable

if TYPE_CHECKING:
    from lethe_server.reconciler import Reconciler


class Present(Collector):
    """The modules and routes as they are."""

    def __init__(self, residents: Residents, routes: RouteTable) -> None:
        self._residents = residents
        self._routes = routes

    def collect(self) -> Iterator[Metric]:
        modules = GaugeMetricFamily("lethe_module_info", "Modules in the engine.", labels=["module", "digest"])
        inflight = GaugeMetricFamily("lethe_inflight_requests", "HTTP requests being answered.", labels=["module"])
        routes = GaugeMetricFamily("lethe_route_info", "What each public model stands for.", labels=["model", "module"])
        running: dict[str, int] = {}
        present: set[tuple[str, str]] = set()
        num_bytes = 0
        for resident in self._residents.known():
            running[resident.label] = running.get(resident.label, 0) + resident.num_requests
            if resident.loaded is not None:
                digests = "+".join(module.digest for module in resident.loaded.modules)
                present.add((resident.label, digests))
                num_bytes += resident.loaded.num_bytes
        for name, digest in sorted(present):
            modules.add_metric([name, digest], 1)
        for name, count in running.items():
            inflight.add_metric([name], count)
        for model, spec in self._routes.items():
            for name in sorted({label(target.modules) for target in spec.targets}):
                routes.add_metric([model, name], 1)
        yield from (modules, inflight, routes)
        yield GaugeMetricFamily(
            "lethe_resident_modules_bytes", "Host memory of the modules in the engine, for each worker.", num_bytes
        )
        yield CounterMetricFamily(
            "lethe_module_evictions_total",
            "Modules that left the engine to make room for others.",
            self._residents.num_evictions,
        )


class Followed(Collector):
    """Whether what is declared is what is served. alive: whether the engine is."""

    def __init__(self, reconciler: Reconciler, alive: Callable[[], bool]) -> None:
        self._reconciler = reconciler
        self._alive = alive

    def collect(self) -> Iterator[GaugeMetricFamily]:
        reconciler = self._reconciler
        declared, served = reconciler.declared.generation, reconciler.served.generation
        ready = reconciler.caught_up and self._alive()
        shown = {
            "lethe_ready": ("1 while /ready says so.", ready),
            "lethe_state_generation": ("Generation declared last.", declared),
            "lethe_state_observed_generation": ("Generation served.", served),
            "lethe_state_error": ("1 while what is declared can't be served.", reconciler.error is not None),
            "lethe_draining_modules": (
                "Modules that are to leave and still answer requests.",
                len(reconciler.draining),
            ),
        }
        for name, (text, value) in shown.items():
            yield GaugeMetricFamily(name, text, value=value)
