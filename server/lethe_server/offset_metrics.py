"""Metrics of the offset itself, from what the engine counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Set
from contextlib import contextmanager

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from lethe_server.engine.reading import Reading
from lethe_server.engine.tallies import COMPARED_EVERY, DIVERGENCE_BOUNDS, Tally
from lethe_server.residents import made_of

READ_S = 1.0
SAMPLED = f"One row in {COMPARED_EVERY}, chosen at random, is compared with the large model's"
ROWS = {  # by the field of a Tally
    "rows": (
        "lethe_offset_rows_total",
        "Rows of logits with an offset: generated and drafted tokens, scored prompt tokens, the end of each part of a "
        "prompt.",
    ),
    "refused": (
        "lethe_offset_refused_rows_total",
        "Rows that failed their request: the offset is not finite, or the rule unknown.",
    ),
    "changed": (
        "lethe_offset_changed_rows_total",
        f"Compared rows with another most likely token. {SAMPLED}.",
    ),
    "clipped": (
        "lethe_offset_clipped_rows_total",
        f"Compared rows with an element beyond the rule's clip. {SAMPLED}.",
    ),
}
log = logging.getLogger(__name__)


class OffsetMetrics(Collector):
    """Counts by the modules' names, which outlive the adapters: a module that comes back goes on where it was.

    slots: adapter slots of the engine. read: what the engine counted since it was last asked.
    """

    def __init__(self, slots: int, read: Callable[[], Awaitable[Reading]]) -> None:
        self._slots = slots
        self._read = read
        self._names: dict[int, str] = {}  # by vLLM's number of the adapter
        self._left: set[int] = set()
        self._tallies: dict[str, Tally] = {}
        self._slots_used = 0
        self._evictions = 0
        self._models_s: float | None = None
        self._pair_s: float | None = None
        self._num_running = 0
        self._uncounted = asyncio.Event()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The engine has something to count within the block."""
        self._num_running += 1
        self._uncounted.set()
        try:
            yield
        finally:
            self._num_running -= 1
            self._uncounted.set()

    def entered(self, adapter_id: int, module: str) -> None:
        """An adapter is in the engine, for modules of this name."""
        self._uncounted.set()
        self._names[adapter_id] = module
        self._tallies.setdefault(module, Tally(0, 0, 0, 0, 0, 0.0, (0,) * len(DIVERGENCE_BOUNDS)))

    def left(self, adapter_id: int) -> None:
        """An adapter is no longer in the engine; the next reading may hold the last of its counts."""
        self._left.add(adapter_id)

    def keep(self, modules: Set[str]) -> None:
        """Remove the series of all other modules."""
        self._tallies = {name: tally for name, tally in self._tallies.items() if made_of(name, modules)}

    async def follow(self) -> None:
        """Read once a second while there is something to count, until cancelled.

        Not while there is nothing: vLLM's workers spin for a second after every call, so a steady reader would keep an
        idle server's cores busy.
        """
        failed = False
        while True:
            await self._uncounted.wait()
            await asyncio.sleep(READ_S)
            if not self._num_running:
                self._uncounted.clear()
            try:
                await self.update()
                failed = False
            except Exception as err:
                self._uncounted.set()
                if not failed:
                    log.warning("the engine's counts can't be read: %s", str(err) or type(err).__name__)
                failed = True

    async def update(self) -> None:
        left = frozenset(self._left)
        reading = await self._read()
        for adapter_id, tally in reading.tallies.items():
            name = self._names.get(adapter_id, "")
            if name in self._tallies:
                self._tallies[name] += tally
        for adapter_id in left:
            self._names.pop(adapter_id, None)
        self._left -= left
        self._slots_used = reading.slots_used
        self._evictions += reading.slot_evictions
        if reading.models_s is None or reading.pair_s is None:
            return
        if self._models_s is None or self._pair_s is None:  # the first time holds what starting took
            self._models_s = self._pair_s = 0.0
            return
        self._models_s += reading.models_s
        self._pair_s += reading.pair_s

    def collect(self) -> Iterator[Metric]:
        for field, (name, text) in ROWS.items():
            counter = CounterMetricFamily(name, text, labels=["module"])
            for module, tally in self._tallies.items():
                counter.add_metric([module], getattr(tally, field))
            yield counter
        yield self._divergence()
        yield GaugeMetricFamily("lethe_adapter_slots", "Modules that one engine step can mix.", value=self._slots)
        yield GaugeMetricFamily(
            "lethe_adapter_slots_used", "Adapter slots that hold a module of the engine's.", value=self._slots_used
        )
        yield CounterMetricFamily(
            "lethe_adapter_slot_evictions_total", "Modules that lost their slot to another.", value=self._evictions
        )
        if self._models_s is not None:  # on the CPU
            yield CounterMetricFamily(
                "lethe_models_seconds_total", "Time in forward passes and heads, of all models.", value=self._models_s
            )
            yield CounterMetricFamily(
                "lethe_pair_seconds_total", "Time in forward passes and heads, of the pair.", value=self._pair_s
            )

    def _divergence(self) -> Metric:
        text = f"KL(offset distribution || large model's), nats. {SAMPLED}."
        histogram = HistogramMetricFamily("lethe_offset_divergence_nats", text, labels=["module"])
        for module, tally in self._tallies.items():
            within = zip(map(str, DIVERGENCE_BOUNDS), map(float, tally.within), strict=True)
            histogram.add_metric([module], [*within, ("+Inf", tally.compared)], tally.divergence)
        return histogram
