"""Jobs side by side, each in a process of its own, with a bar for what is under way."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from types import FrameType
from typing import Any, NoReturn, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from transformers.utils.logging import disable_progress_bar

from lethe_offsets.errors import LetheError
from lethe_offsets.heap import KEPT, tunables
from lethe_offsets.training.progress import Report
from lethe_offsets.training.threads import one_thread

POLL_S = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PRELOADED = "lethe_offsets.comparison.run"  # with torch and transformers, whose import would cost each job seconds
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
    """So many jobs at once, as long as the block lasts.

    No process gets a second job: what many trainings leave of a heap makes the next ones slower. Measured: in processes
    that had done 30 jobs a module's judgement took 176 s of a core, in new ones 138 s, in a third of the memory.
    """

    def __init__(self, workers: int, device: str, console: Console) -> None:
        self._console = console
        context: BaseContext
        if device == "cpu":
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([PRELOADED])
            with tunables(*KEPT):
                forkserver.ensure_running()
        else:  # had an import of the parent's looked for a GPU, no forked child could use it
            context = multiprocessing.get_context("spawn")
        self._messages: Any = context.Queue()
        self._executor = ProcessPoolExecutor(workers, context, _start, (self._messages,), max_tasks_per_child=1)

    def __enter__(self) -> Self:
        self._before = set(multiprocessing.active_children())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
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
            waiting = {self._executor.submit(_run, job): job for job in jobs}
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
    disable_progress_bar()  # type: ignore[no-untyped-call]  # of loading weights
    for number in SIGNALS:
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _run(job: Job) -> str | None:
    """In a worker: what went wrong, as text; errors that carry data don't survive pickling."""

    def report(label: str, done: int, total: int, note: str = "") -> None:
        _messages.put((job.label, label, done, total, note))

    try:
        try:
            with one_thread():
                job.run(report)
        finally:  # the process ends by itself; a signal while it sends its result would have it send another
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
    except LetheError as err:
        return f"{job.label}: {err}"
    except SystemExit as end:  # the executor would take it for the job's result
        os._exit(end.code if isinstance(end.code, int) else 1)
    return None
