"""Processes of engines and their workers forked from one that has imported vLLM, which is most of a new one's start.

Only in tests, of which many start an engine each: a server's engine is spawned as vLLM does it, and its workers too,
because their threads are bound to cores by variables that are read at a process's start.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from types import SimpleNamespace
from typing import Any

import pytest

_server = forkserver.ForkServer()  # not the standard one, which forks the processes of a comparison
_server.set_forkserver_preload(["vllm.v1.engine.core", "vllm.v1.worker.cpu_worker", "lethe_server.engine.ensemble"])


class _Process(multiprocessing.get_context("forkserver").Process):  # type: ignore[misc]
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._environment = dict(os.environ)  # the server's is that of the first engine's start

    def start(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forkserver, "connect_to_new_process", _server.connect_to_new_process)
            super().start()

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self._environment)
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
