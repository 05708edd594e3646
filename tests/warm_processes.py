"""Processes forked from one that has imported vLLM and the server, which is most of a new one's start.

Only in tests, of which many start an engine or a server each. What a process takes over from its own start (variables
that the C library or OpenMP reads, the processes it has for children) is as users have it in those started otherwise.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PRELOADED = [
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "lethe_server.engine.ensemble",
    "lethe_server.cli",
    "lethe_server.run",
]
_server = forkserver.ForkServer()  # not the standard one, which forks the processes of a comparison
_server.set_forkserver_preload(PRELOADED)
_files: tuple[Path, ...] = ()  # where this process and those that it starts print; none: where they come from


class _Process(multiprocessing.get_context("forkserver").Process):  # type: ignore[misc]
    """files: for standard output and errors."""

    def __init__(
        self, environment: dict[str, str] | None = None, files: tuple[Path, ...] | None = None, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self._environment = dict(environment or os.environ)  # the server's is that of the first one's start
        self._files = files or _files

    def start(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forkserver, "connect_to_new_process", _server.connect_to_new_process)
            super().start()

    def run(self) -> None:
        global _files
        os.environ.clear()
        os.environ.update(self._environment)
        _files = self._files
        for number, path in enumerate(_files, 1):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(file, number)
            os.close(file)
        with pytest.MonkeyPatch.context() as patch:
            fork = multiprocessing.get_context("fork")
            patch.setattr("vllm.v1.executor.multiproc_executor.get_mp_context", lambda: fork)
            super().run()


@contextmanager
def warm() -> Iterator[None]:
    """Processes of engines that are started meanwhile are forked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vllm.v1.engine.utils.get_mp_context", lambda: SimpleNamespace(Process=_Process))
        yield


class WarmCommand:
    """A command ``lethe`` in a forked process, with what ``subprocess.Popen`` has of the same name.

    out: where its output goes, and errors too unless they have a file of their own.
    """

    def __init__(
        self, arguments: Sequence[str], cwd: Path, environment: dict[str, str], out: Path, errors: Path | None = None
    ) -> None:
        self.args = list(arguments)
        self._process = _Process(environment, (out, errors or out), target=_run, args=(self.args, cwd))
        self._process.start()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def _run(arguments: Sequence[str], cwd: Path) -> None:
    global _server
    _server = forkserver._forkserver  # type: ignore[attr-defined]  # that which this process was forked from;
    _server.ensure_running = lambda: None  # Python would start another
    os.chdir(cwd)
    sys.argv = list(arguments)
    from lethe_offsets.cli import main

    with warm():
        main()
