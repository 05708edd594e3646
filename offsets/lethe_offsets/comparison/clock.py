"""How long a step took, over all its interruptions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lethe_offsets.writing import replacing


@contextmanager
def timed(path: Path, device: str) -> Iterator[None]:
    """Adds the block's seconds to the number in ``path``.

    On the CPU the process's own, so that what else the machine does isn't counted; elsewhere those of the clock.
    """
    now = time.process_time if device == "cpu" else time.monotonic
    started = now()
    try:
        yield
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        total = seconds(path) + now() - started
        with replacing(path) as draft:
            draft.write_text(f"{total:.1f}", encoding="utf-8")


def clock_file(folder: Path, step: str, recipe: str) -> Path:
    """Where the seconds are kept of a step whose outcome lies below ``folder``; of another recipe they are others."""
    return folder / "clocks" / f"{step}-{recipe[:12]}"


def seconds(path: Path) -> float:
    """What ``timed`` has summed up; 0 where nothing has run yet."""
    return float(path.read_text(encoding="utf-8")) if path.is_file() else 0.0
