"""A benchmark run from end to end."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lethe_server.bench import report
from lethe_server.bench.goals import goals
from lethe_server.bench.machine import describe
from lethe_server.bench.models import build_models
from lethe_server.bench.plot import draw
from lethe_server.bench.settings import BenchSettings
from lethe_server.bench.stages import Run, measure_cells, measure_modules, time_engines
from lethe_server.bench.store import Store
from lethe_server.bench.summary import rows
from lethe_server.collector import frozen_heap

RESULTS = "results.jsonl"


def run(settings: BenchSettings, out: Path, work: Path, fresh: bool, command: str) -> None:
    """Measure what ``out`` doesn't hold yet, then write the report. Raises LetheError when a system fails."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that no server outlives the run
    if fresh:
        (out / RESULTS).unlink(missing_ok=True)
    store = Store(out / RESULTS, {"settings": settings.model_dump(), "machine": describe()})
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("making models")
        models = build_models(settings, work)
        stages = Run(settings, models, store, work, lambda text: progress.update(task, description=text))
        with frozen_heap():
            time_engines(stages)
            for ratio in settings.ratios:
                measure_cells(stages, ratio)
            measure_modules(stages)
    finish(settings, out, store, command)


def finish(settings: BenchSettings, out: Path, store: Store, command: str) -> None:
    """Print the tables and write them, with the picture, to ``out``."""
    table = rows(settings, store)
    judged = goals(table, store)
    report.write(out, command, settings, table, judged, store)
    draw(table, out / "bench.png")
    console = Console()
    console.print(report.as_table(table, store), report.goals_table(judged))
    console.print(f"table.md, goals.md and bench.png are in {out}")
