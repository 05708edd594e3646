"""Kills a change of a state directory before each of its system calls that alter the disk, in a process of its own.

    python kill_each_step.py BEFORE AFTER MODULE...

BEFORE: a state directory. For n = 1, 2, ... until the change ends, AFTER/n is a copy of it on which the change was
killed by SIGKILL before its n-th step. The change keeps the first module and declares it; when there is a second, it
stops declaring that and drops it. Prints the number of steps.
"""

from __future__ import annotations

import builtins
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lethe_offsets.module import Module
from lethe_server.state.declared import DeclaredState, Source
from lethe_server.state.directory import DirectoryStore

ALTERING = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")
MAX_STEPS = 500


def change(store: DirectoryStore, kept: Module, dropped: Module | None) -> None:
    before = store.read() or DeclaredState()
    store.put_module(kept)
    state = before.with_module(Source(ref=kept.ref, source="made"))
    if dropped is not None:
        state = state.without_module(dropped.ref).model_copy(update={"generation": state.generation})
    if state != before:
        store.write(state)
    if dropped is not None:
        store.drop_module(dropped.ref)


def arm(root: Path, last: int) -> None:
    """End this process by SIGKILL before the step with number ``last``; a write of bytes is three steps."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ALTERING and (event != "open" or str(root) in str(arguments[0])):
            step()

    class Torn(io.FileIO):
        def write(self, content: Any) -> int:
            for part in (content[: len(content) // 2], content[len(content) // 2 :]):
                step()
                super().write(part)
            step()
            return len(content)

    def stepping(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            step()
            return call(*arguments)

        return called

    def opened(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return Torn(str(path), mode) if mode == "wb" else builtins.open(path, mode, *rest, **options)

    sys.addaudithook(on_event)
    os.fsync = stepping(os.fsync)
    Path.open = opened  # type: ignore[method-assign, assignment]


def main(before: Path, after: Path, *modules: Path) -> None:
    kept, dropped = [*(Module.open(path) for path in modules), None][:2]
    assert kept is not None
    for number in range(1, MAX_STEPS):
        place = after / str(number)
        shutil.copytree(before, place)
        child = os.fork()
        if child == 0:
            try:
                arm(place, number)
                change(DirectoryStore(place), kept, dropped)
            except BaseException as err:
                print(f"step {number}: {err!r}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            print(number - 1)
            return
        if status != -signal.SIGKILL:
            raise SystemExit(f"the change failed by itself at step {number}")
    raise SystemExit("the change doesn't end")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
