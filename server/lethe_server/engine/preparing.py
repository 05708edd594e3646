"""Adapters are read by a thread of each worker: the engine's loop then only copies them into a slot."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from lethe_server.engine import compat_adapters


class Preparing:
    """Adapters that are being read, or have been and wait for vLLM's manager to ask for them.

    manager: vLLM's adapter manager of this worker.
    """

    def __init__(self, manager: Any) -> None:
        self._read = compat_adapters.adapter_reader(manager, self._take)
        self._thread = ThreadPoolExecutor(1, "lethe-prepare", initializer=_leave_core)
        self._pending: dict[int, Future[Any]] = {}

    def start(self, adapter_id: int, path: str) -> None:
        self._pending[adapter_id] = self._thread.submit(self._read, adapter_id, path)

    def done(self, adapter_id: int) -> bool:
        """Whether the adapter is ready. Raises what reading it raised."""
        pending = self._pending[adapter_id]
        if pending.done():
            pending.result()
        return pending.done()

    def forget(self, adapter_id: int) -> None:
        self._pending.pop(adapter_id, None)

    def _take(self, adapter_id: int) -> Any:
        """The prepared adapter, once; None for one that nobody prepared."""
        pending = self._pending.pop(adapter_id, None)
        return None if pending is None else pending.result()


def _leave_core() -> None:
    """vLLM binds its worker on the CPU to one core, and a thread inherits that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
