"""Jobs side by side, one process each, with a bar for what is under way."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, NoReturn, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lethe_offsets.errors import LetheError
from lethe_offsets.training.memory import keep_memory
from lethe_offsets.training.progress import Report
from lethe_offsets.training.threads import one_thread

POLL_S = 0.2
COLUMNS = (
    "{task.description}",
    BarColumn(),
    "{task.completed}/{task.total}",
    TimeElapsedColumn(),
    "{task.fields[note]}",
)

_messages: Any = None  # a worker's end of the queue, set where the worker starts


@dataclass(frozen=True, slots=True)
class Job:
    """run: must survive pickling. What is already done returns at once."""

    label: str
    run: Callable[[Report], object]


class Bars:
    """One bar over all jobs of a phase, and one for each job that has said how far it is and hasn't ended."""

    def __init__(self, progress: Progress, phase: str, total: int) -> None:
        self._progress = progress
        self._all = progress.add_task(phase, total=total, note="")
        self._bars: dict[str, TaskID] = {}

    def report(self, job: str, label: str, done: int, total: int, note: str = "") -> None:
        if job not in self._bars:
            self._bars[job] = self._progress.add_task(job, total=total, note="")
        self._progress.update(self._bars[job], completed=done, total=total, note=f"{label} {note}")

    def end(self, job: str) -> None:
        if job in self._bars:
            self._progress.remove_task(self._bars.pop(job))
        self._progress.advance(self._all)


class Pool:
    """Processes that live as long as the block; one worker means this process."""

    def __init__(self, workers: int, console: Console) -> None:
        self._workers, self._console = workers, console
        self._context = multiprocessing.get_context("spawn")  # torch's threads don't survive a fork
        self._messages: Any = None
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        self._before = set(multiprocessing.active_children())
        if self._workers > 1:
            self._messages = self._context.Queue()
            self._executor = ProcessPoolExecutor(self._workers, self._context, _start, (self._messages,))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._executor is None:
            return
        if kind is not None:  # what is under way starts again from its last checkpoint the next time
            for process in set(multiprocessing.active_children()) - self._before:
                process.terminate()
        self._executor.shutdown(cancel_futures=True)

    def run(self, phase: str, jobs: Sequence[Job]) -> None:
        """Run all jobs, as many at once as there are workers, each on one core.

        The first error ends the phase. Raises LetheError for a job's.
        """
        columns = [TextColumn(column) if isinstance(column, str) else column for column in COLUMNS]
        with Progress(*columns, console=self._console) as progress:
            bars = Bars(progress, phase, len(jobs))
            if self._executor is not None:
                self._run_side_by_side(self._executor, jobs, bars)
                return
            keep_memory()
            with one_thread():
                for job in jobs:
                    job.run(partial(bars.report, job.label))
                    bars.end(job.label)

    def _run_side_by_side(self, executor: ProcessPoolExecutor, jobs: Sequence[Job], bars: Bars) -> None:
        waiting = {executor.submit(_run, job): job for job in jobs}
        while waiting:
            _show(self._messages, bars)
            for future in [future for future in waiting if future.done()]:
                bars.end(waiting.pop(future).label)
                _raise(future)


def _show(messages: Any, bars: Bars) -> None:
    try:
        bars.report(*messages.get(timeout=POLL_S))
        while True:
            bars.report(*messages.get_nowait())
    except queue.Empty:
        return


def _raise(future: Future[str | None]) -> None:
    if (problem := future.result()) is not None:
        raise LetheError(problem)


def _start(messages: Any) -> None:
    """In a worker: a signal ends it silently; what it had finished is kept, its clock too, and the parent speaks."""
    global _messages
    _messages = messages
    keep_memory()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _run(job: Job) -> str | None:
    """In a worker: what went wrong, as text; errors that carry data don't survive pickling."""

    def report(label: str, done: int, total: int, note: str = "") -> None:
        _messages.put((job.label, label, done, total, note))

    try:
        with one_thread():
            job.run(report)
    except LetheError as err:
        return f"{job.label}: {err}"
    except SystemExit as end:  # the executor would take it for the job's result and give this worker the next one
        os._exit(end.code if isinstance(end.code, int) else 1)
    return None
