"""What the server counts of requests, modules and routes.

Label values come from the catalog and the route table, never from a request. A module has at most 30 series, whatever
happens: hence the few buckets. vLLM's own histograms, of the whole engine, have many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram

from lethe_offsets.errors import LetheError
from lethe_server.engine.probe import ProbeFailed
from lethe_server.offset_metrics import OffsetMetrics
from lethe_server.residents import Residents, label, made_of
from lethe_server.routing import RouteTable
from lethe_server.scope import Outcome, RequestScope
from lethe_server.shadow_metrics import ShadowMetrics
from lethe_server.state_metrics import Followed, Present

if TYPE_CHECKING:
    from lethe_server.reconciler import Reconciler

LOAD_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
FIRST_TOKEN_BUCKETS_S = (0.2, 1, 5)
OUTPUT_TOKEN_BUCKETS_S = (0.02, 0.05, 0.1, 0.25)
RESULTS = ("ok", "client_error", "server_error", "aborted")


class Metrics:
    """Lethe's metrics on a registry of the caller's. offsets: those of the engine, where there is one."""

    def __init__(self, registry: CollectorRegistry, offsets: OffsetMetrics | None = None) -> None:
        self.registry = registry
        self.offsets = offsets
        self.shadows = ShadowMetrics(registry, self.computing)
        self._labels: set[str] = set()
        self._answers = Counter(
            "lethe_answers_total",
            "Answers on inference paths, by how they ended; server_error also for a stream that broke off.",
            ["result"],
            registry=registry,
        )
        self._requests = Counter(
            "lethe_requests_total",
            "HTTP requests that reached the engine, by how they ended.",
            ["module", "outcome"],
            registry=registry,
        )
        self._first_token = Histogram(
            "lethe_time_to_first_token_seconds",
            "From a request's arrival to its first token, of requests that were answered.",
            ["module"],
            buckets=FIRST_TOKEN_BUCKETS_S,
            registry=registry,
        )
        self._output_token = Histogram(
            "lethe_time_per_output_token_seconds",
            "Mean time of a generation's tokens after its first.",
            ["module"],
            buckets=OUTPUT_TOKEN_BUCKETS_S,
            registry=registry,
        )
        self._load_seconds = Histogram(
            "lethe_module_load_seconds",
            "Time to bring a module into the engine and probe it.",
            buckets=LOAD_BUCKETS_S,
            registry=registry,
        )
        self._load_failures = Counter(
            "lethe_module_load_failures_total",
            "Modules that could not be brought into the engine; probe: they loaded and did not act.",
            ["reason"],
            registry=registry,
        )
        self._swaps = Counter("lethe_swaps_total", "Changes of a route.", ["result"], registry=registry)
        for result in ("flipped", "refused"):
            self._swaps.labels(result=result)
        for reason in ("probe", "other"):
            self._load_failures.labels(reason=reason)
        for result in RESULTS:
            self._answers.labels(result=result)
        if offsets is not None:
            registry.register(offsets)

    def watch(self, residents: Residents, routes: RouteTable) -> None:
        """Show the modules and routes as they are whenever the metrics are read."""
        self.registry.register(Present(residents, routes))

    def follow(self, reconciler: Reconciler, alive: Callable[[], bool] = lambda: True) -> None:
        """Show how far the server has followed what is declared."""
        self.registry.register(Followed(reconciler, alive))

    def count_request(self, request: RequestScope) -> None:
        """Count a request that has ended; one that never reached the engine is not counted."""
        if request.resident is not None and request.outcome is not None:
            self._labels.add(request.resident.label)
            self._requests.labels(module=request.resident.label, outcome=request.outcome.value).inc()

    def count_answer(self, status: int | None, outcome: Outcome | None) -> None:
        """Count the answer on an inference path. status: None when the client left before there was one."""
        result = "ok"
        if status is not None and 400 <= status < 500:
            result = "client_error"
        elif outcome is Outcome.ERROR or (status is not None and status >= 500):
            result = "server_error"
        elif outcome is Outcome.ABORTED or status is None:
            result = "aborted"
        self._answers.labels(result=result).inc()

    def computing(self) -> AbstractContextManager[None]:
        """The engine has something to count within the block."""
        return nullcontext() if self.offsets is None else self.offsets.computing()

    def first_token(self, module: str, seconds: float) -> None:
        self._labels.add(module)
        self._first_token.labels(module).observe(seconds)

    def output_token(self, module: str, seconds: float) -> None:
        """seconds: mean of a generation's tokens after its first."""
        self._labels.add(module)
        self._output_token.labels(module).observe(seconds)

    def loaded(self, seconds: float, adapter_id: int, module: str) -> None:
        """An adapter is in the engine for modules of this label."""
        self._load_seconds.observe(seconds)
        if self.offsets is not None:
            self.offsets.entered(adapter_id, module)

    def unloaded(self, adapter_id: int) -> None:
        if self.offsets is not None:
            self.offsets.left(adapter_id)

    def load_failed(self, error: Exception) -> None:
        self._load_failures.labels("probe" if isinstance(error, ProbeFailed) else "other").inc()

    @contextmanager
    def swap(self) -> Iterator[None]:
        """A change of a route within the block, refused when it raises a LetheError."""
        try:
            yield
        except LetheError:
            self._swaps.labels(result="refused").inc()
            raise
        self._swaps.labels(result="flipped").inc()

    def keep(self, refs: Set[str]) -> None:
        """Remove the series of modules that are not among ``refs``, alone or together with others."""
        names = {label((ref,)) for ref in refs}
        kept = {name for name in self._labels if made_of(name, names)}
        for gone in self._labels - kept:
            self._first_token.remove_by_labels({"module": gone})
            self._output_token.remove_by_labels({"module": gone})
            self._requests.remove_by_labels({"module": gone})
        self._labels = kept
        if self.offsets is not None:
            self.offsets.keep(names)
        self.shadows.keep(refs)
