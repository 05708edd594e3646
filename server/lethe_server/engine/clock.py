"""How long the models compute, and the pair's part of it."""

from __future__ import annotations

import time
from types import TracebackType


class Stopwatch:
    """Adds up the time of blocks. A call on the CPU has computed when it returns; on a GPU this would time nothing."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.seconds += time.perf_counter() - self._began


class Clock:
    """models: forward passes and heads of all three. pair: those of the pair, and the rules."""

    def __init__(self) -> None:
        self.models = Stopwatch()
        self.pair = Stopwatch()
