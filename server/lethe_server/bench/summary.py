"""From single results to the rows of the table: medians over turns, ratios to plain vLLM, and the bound."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lethe_server.bench.measurement import Measurement
from lethe_server.bench.settings import BenchSettings, Cell
from lethe_server.bench.store import Key, Store

PLAIN, LETHE, PROCESSOR, LOOP = "plain vLLM", "Lethe", "processor", "HF loop"
SYSTEMS = (PLAIN, LETHE, PROCESSOR, LOOP)


@dataclass(frozen=True)
class Row:
    """One system in one cell.

    spread: of the turns' tokens/s, as a fraction of their median. to_plain: its tokens/s over plain's, like every ratio
    the median of the turns', each to plain's turn just before. step_to_plain: plain's step over its own. bound: what
    the step ratio can be at most; cold_bound: where the small model finds its weights no more in the processor's caches
    than beside a large model. first_bound: how many times plain's time to the first token the pair's own work takes at
    least. None where it was not measured.
    """

    ratio: int
    cell: Cell
    system: str
    measured: Measurement
    spread: float
    to_plain: float
    step_to_plain: float | None
    bound: float | None
    cold_bound: float | None
    first_to_plain: float
    first_bound: float | None

    @property
    def of_bound(self) -> float | None:
        return self.step_to_plain / self.bound if self.step_to_plain and self.bound else None

    @property
    def of_cold_bound(self) -> float | None:
        return self.step_to_plain / self.cold_bound if self.step_to_plain and self.cold_bound else None

    @property
    def first_of_bound(self) -> float | None:
        return self.first_to_plain / self.first_bound if self.first_bound else None


def bound(plain_step: float | None, small_forward: float | None) -> float | None:
    """Plain's step over plain's step and one plain forward of the small model, its head included, over twice the rows.

    The lanes read the small model's weights once; nothing that computes both in full can be faster beside an
    unchanged large model.
    """
    return plain_step / (plain_step + small_forward) if plain_step and small_forward else None


def first_bound(large_prefill: float | None, small_prefill: float | None) -> float | None:
    """The same for the first token: by which factor reading the prompts takes longer, the pair's twice."""
    return 1 + small_prefill / large_prefill if large_prefill and small_prefill else None


def median(measurements: Sequence[Measurement]) -> Measurement:
    """Of each number by itself."""

    def middle(name: str) -> float:
        return float(statistics.median(getattr(m, name) for m in measurements))

    steps = [m.step for m in measurements if m.step is not None]
    fields = ("tokens_per_s", "first_p50", "first_p99", "next_p50", "next_p99")
    return Measurement(**{name: middle(name) for name in fields}, step=statistics.median(steps) if steps else None)


def rows(settings: BenchSettings, store: Store) -> list[Row]:
    """The table, for every cell that both plain vLLM and the system were measured in."""
    found = []
    for ratio in settings.ratios:
        for cell in settings.cells():
            plain = _turns(settings, store, PLAIN, ratio, cell)
            for system in SYSTEMS if plain else ():
                own = _turns(settings, store, system, ratio, cell)
                if own:
                    found.append(_row(store, ratio, cell, system, own, plain))
    return found


def pair_share(store: Store, ratio: int, cell: Cell) -> float | None:
    """The pair's part of a decode step of Lethe's engine, its heads included; None where it was not timed."""
    times = store.get(Key("steps", LETHE, ratio, cell.concurrency, cell.prompt)) or {}
    return times["pair"] / times["step"] if times.get("pair") and times.get("step") else None


def _turns(settings: BenchSettings, store: Store, system: str, ratio: int, cell: Cell) -> list[Measurement]:
    keys = (Key("cell", system, ratio, cell.concurrency, cell.prompt, n) for n in range(settings.turns(cell)))
    return [Measurement(**store.get(key)) for key in keys if key in store]


def _row(
    store: Store, ratio: int, cell: Cell, system: str, own: Sequence[Measurement], plain: Sequence[Measurement]
) -> Row:
    def timed(model: str, ratio: int) -> dict[str, Any]:
        return store.get(Key("steps", model, ratio, cell.concurrency, cell.prompt)) or {}

    small, large = timed("small", ratio), timed("large", 0)
    measured, plain_step = median(own), median(plain).step
    turns = list(zip(own, plain, strict=False))  # peers have but the first
    steps = [before.step / each.step for each, before in turns if before.step and each.step]
    speeds = [m.tokens_per_s for m in own]
    lethe = system == LETHE
    return Row(
        ratio=ratio,
        cell=cell,
        system=system,
        measured=measured,
        spread=(max(speeds) - min(speeds)) / measured.tokens_per_s,
        to_plain=statistics.median(each.tokens_per_s / before.tokens_per_s for each, before in turns),
        step_to_plain=statistics.median(steps) if steps else None,
        bound=bound(plain_step, small.get("decode")) if lethe else None,
        cold_bound=bound(plain_step, small.get("cold")) if lethe else None,
        first_to_plain=statistics.median(each.first_p50 / before.first_p50 for each, before in turns),
        first_bound=first_bound(large.get("prefill"), small.get("prefill")) if lethe else None,
    )
