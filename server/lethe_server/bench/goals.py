"""The goals on the CPU, and whether a run met them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from lethe_server.bench.settings import Cell
from lethe_server.bench.store import Store
from lethe_server.bench.summary import LETHE, LOOP, PLAIN, PROCESSOR, Row

OF_BOUND = 0.90
LOOP_FACTOR, LOOP_CONCURRENCY = 5.0, 16
FIRST_OF_BOUND = 1.1
MIXED = 0.9
START_FACTOR = 1.3


@dataclass(frozen=True)
class Goal:
    """measured: the worst value found and where; None when the run holds nothing to decide it by."""

    text: str
    measured: str | None
    met: bool

    @property
    def verdict(self) -> str:
        return "not measured" if self.measured is None else "met" if self.met else "not met"


def goals(table: Sequence[Row], store: Store) -> list[Goal]:
    lethe = [row for row in table if row.system == LETHE]
    at_16 = [row for row in lethe if row.cell.concurrency == LOOP_CONCURRENCY]
    loops, processors = _by_cell(table, LOOP), _by_cell(table, PROCESSOR)
    bounds = [
        _worst(
            f"Decode step at least {OF_BOUND:.2f} of the {which}, concurrency {concurrency}",
            [(of(row), row) for row in lethe if row.cell.concurrency == concurrency],
            lambda value: value >= OF_BOUND,
        )
        for concurrency in sorted({row.cell.concurrency for row in lethe})
        for which, of in (("bound", attrgetter("of_bound")), ("cold bound", attrgetter("of_cold_bound")))
    ]
    return [
        *bounds,
        *(
            _worst(
                f"At least {LOOP_FACTOR:g} times a Hugging Face loop's tokens/s, {LOOP_CONCURRENCY} requests, {how}",
                [(_speed(row, loops.get((row.ratio, Cell(rows, row.cell.prompt)))), row) for row in at_16],
                lambda value: value >= LOOP_FACTOR,
            )
            for how, rows in (("all in one batch", LOOP_CONCURRENCY), ("one after the other", 1))
        ),
        _worst(
            "Ahead of the sampling-time processor in tokens/s everywhere",
            [(_speed(row, processors.get((row.ratio, row.cell))), row) for row in lethe],
            lambda value: value > 1,
        ),
        _worst(
            f"Time to first token (p50) at most {FIRST_OF_BOUND:g} times the bound's",
            [(row.first_of_bound, row) for row in lethe],
            lambda value: value <= FIRST_OF_BOUND,
            largest=True,
        ),
        mixed_goal(store),
        start_goal(store),
    ]


def mixed_goal(store: Store) -> Goal:
    speeds = {
        system: [store.get(key)["tokens_per_s"] for key in store.keys("modules") if key.system == system]
        for system in ("one", "mixed")
    }
    text = f"Modules mixed in one batch at least {MIXED:g} of one module's tokens/s on the same server"
    if not all(speeds.values()):
        return Goal(text, None, False)
    value = statistics.median(speeds["mixed"]) / statistics.median(speeds["one"])
    return Goal(text, f"{value:.2f} at {store.keys('modules')[0].concurrency} modules", value >= MIXED)


def start_goal(store: Store) -> Goal:
    """By servers that find their compiled code, because the timed engines ran before them."""
    times = {(key.system, key.ratio): store.get(key) for key in store.keys("start")}
    ratios = {ratio for system, ratio in times if system == LETHE and (PLAIN, ratio) in times}
    text = f"Start at most {START_FACTOR:g} times plain vLLM's"
    if not ratios:
        return Goal(text, None, False)
    value, ratio = max((times[LETHE, ratio] / times[PLAIN, ratio], ratio) for ratio in ratios)
    return Goal(text, f"{value:.2f} at worst ({ratio}:1)", value <= START_FACTOR)


def _worst(
    text: str, values: Iterable[tuple[float | None, Row]], accept: Callable[[float], bool], largest: bool = False
) -> Goal:
    known = [(value, row) for value, row in values if value is not None]
    if not known:
        return Goal(text, None, False)
    value, row = (max if largest else min)(known, key=lambda pair: pair[0])
    where = f"{row.ratio}:1, concurrency {row.cell.concurrency}, prompts of {row.cell.prompt}"
    return Goal(text, f"{value:.2f} at worst ({where})", accept(value))


def _by_cell(table: Sequence[Row], system: str) -> dict[tuple[int, Cell], Row]:
    return {(row.ratio, row.cell): row for row in table if row.system == system}


def _speed(row: Row, peer: Row | None) -> float | None:
    return row.measured.tokens_per_s / peer.measured.tokens_per_s if peer else None
