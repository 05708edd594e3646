"""How an engine ended. A contact with vLLM's internals of its own: ``compat`` imports what builds models."""

from __future__ import annotations

import signal
from typing import Any


def cause_of_death(client: Any) -> str:
    """In words, from the exit code of a process of the engine's. client: vLLM's, whose engine died.

    Relies on ``finished_procs`` of ``CoreEngineProcManager`` (0.32); engines that Ray holds have none.
    """
    manager = client.engine_core.resources.engine_manager
    finished: dict[str, int] = getattr(manager, "finished_procs", dict)()
    for name, code in finished.items():
        if code == -signal.SIGKILL:
            return f"{name} was ended by SIGKILL, as by a kernel that is out of memory"
        if code < 0:
            return f"{name} was ended by {signal.Signals(-code).name}"
    return "its last lines in the log say why"
