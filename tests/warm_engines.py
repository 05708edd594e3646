"""Engines' processes forked from one that has imported vLLM, which takes a new one longer than all else of its start.

Only in tests, of which many start an engine each: a server's engine is spawned as vLLM does it.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from types import SimpleNamespace
from typing import Any

import pytest

PRELOADED = ("vllm.v1.engine.core", "vllm.v1.worker.cpu_worker", "lethe_server.engine.ensemble")


@contextmanager
def warm() -> Iterator[None]:
    """Processes of engines that are started meanwhile are forked."""
    server = forkserver._forkserver
    if server._preload_modules != [*PRELOADED]:
        server._stop()  # another one may be running
        server.set_forkserver_preload([*PRELOADED])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vllm.v1.engine.utils.get_mp_context", lambda: SimpleNamespace(Process=_process))
        yield


def _process(*, target: Any, name: str, kwargs: dict[str, Any]) -> Any:
    context = multiprocessing.get_context("forkserver")
    return context.Process(target=_run, name=name, args=(dict(os.environ), target), kwargs=kwargs)


def _run(environment: Mapping[str, str], target: Any, **arguments: Any) -> None:
    os.environ.clear()  # what was set when the first engine was started
    os.environ.update(environment)
    target(**arguments)
