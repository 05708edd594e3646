"""Waiting until what answered before has finished its requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lethe_offsets.errors import LetheError
from lethe_server.operator.client import AdminClient, RouteInfo
from lethe_server.operator.show import short

POLL_S = 0.25


def replaced(before: RouteInfo | None, after: RouteInfo) -> list[str]:
    """Modules that answered before and don't any more."""
    answering = {ref for target in after.targets for ref in target.modules}
    earlier = [] if before is None else [ref for target in before.targets for ref in target.modules]
    return [ref for ref in dict.fromkeys(earlier) if ref not in answering]


def wait(
    client: AdminClient,
    generation: int,
    modules: Sequence[str],
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Until ``generation`` is in force and no request is left on ``modules``, with progress on stderr.

    A module that other routes name as well is not waited for: its requests may never end. Raises LetheError after
    ``timeout_s``; nothing is undone.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"), TimeElapsedColumn())
    deadline = clock() + timeout_s
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("in force", total=None, left="")
        while left := _left(client, generation, modules, bars, task):
            if clock() >= deadline:
                raise LetheError(f"after {timeout_s:g} s: {left}; the change itself is made")
            time.sleep(POLL_S)


def _left(client: AdminClient, generation: int, modules: Sequence[str], bars: Progress, task: TaskID) -> str:
    """What is still waited for, in words; empty when nothing is."""
    state = client.state()
    if state.observed_generation < generation:
        left = f"generation {state.observed_generation} is in force, not {generation}"
        bars.update(task, description="taking effect", left=left)
        return left
    inflight = {
        each.ref: each.inflight
        for each in client.modules()
        if each.ref in modules and not each.active_on and each.inflight
    }
    count = sum(inflight.values())
    total = max(bars.tasks[task].total or 0, count)
    left = ", ".join(f"{number} requests on {short(ref)}" for ref, number in inflight.items())
    bars.update(task, description="draining", total=total, completed=total - count, left=left)
    return left
