"""How long-running steps say how far they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Report(Protocol):
    """A function of a label, the work done, the whole, and what else is to be seen beside them."""

    def __call__(self, label: str, done: int, total: int, note: str = ..., /) -> None: ...


def silent(label: str, done: int, total: int, note: str = "") -> None:
    """Says nothing."""


@contextmanager
def progress_bars(console: Console | None = None) -> Iterator[Report]:
    """One bar for each label, in the order they first report."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def report(label: str, done: int, total: int, note: str = "") -> None:
            if label not in bars:
                bars[label] = progress.add_task(label, total=total, note=note)
            progress.update(bars[label], completed=done, total=total, note=note)

        yield report
