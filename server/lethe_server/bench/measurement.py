"""What is measured in one cell, and the arithmetic from single tokens to it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Times:
    """When a request was sent and when each piece of its answer arrived, in seconds of one clock."""

    sent: float
    arrived: tuple[float, ...]
    tokens: int


@dataclass(frozen=True)
class Measurement:
    """One system in one cell. Seconds; percentiles are over requests (first token) and over gaps between tokens.

    tokens_per_s: output tokens over the whole time, prefill included. step: one decode step with every request
    decoding, the median of the waves; None where the first answer ended before the last had begun.
    """

    tokens_per_s: float
    first_p50: float
    first_p99: float
    next_p50: float
    next_p99: float
    step: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(waves: Sequence[Sequence[Times]]) -> Measurement:
    """From waves of requests that were sent together, one wave after the other."""
    requests = [times for wave in waves for times in wave]
    took = sum(max(t.arrived[-1] for t in wave) - min(t.sent for t in wave) for wave in waves)
    first = [t.arrived[0] - t.sent for t in requests]
    gaps = np.concatenate([np.diff(t.arrived) for t in requests])
    windows = [window for wave in waves if (window := full_window(wave)) is not None]
    return Measurement(
        tokens_per_s=sum(t.tokens for t in requests) / took,
        first_p50=float(np.percentile(first, 50)),
        first_p99=float(np.percentile(first, 99)),
        next_p50=float(np.percentile(gaps, 50)),
        next_p99=float(np.percentile(gaps, 99)),
        step=statistics.median(seconds / steps for seconds, steps in windows) if windows else None,
    )


def full_window(wave: Sequence[Times]) -> tuple[float, int] | None:
    """Seconds and steps between the last request's first token and the first request's last one.

    All requests take part in every step of that time. A server may send two tokens in one piece when its client is
    busy, so the steps are those of the request that came in the most pieces.
    """
    begin = max(t.arrived[0] for t in wave)
    end = min(t.arrived[-1] for t in wave)
    steps = max(sum(begin < moment <= end for moment in t.arrived) for t in wave)
    return (end - begin, steps) if steps else None
