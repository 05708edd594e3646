"""No process of an engine outlives the one that started it.

vLLM ends its processes when a server ends, but not when a server is killed: its engine then waits for requests for
ever, and keeps the memory of the models (0.32). Each process here watches the one that started it; a worker's is the
engine's. To go when an engine ends by itself after SIGKILL of its server.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from functools import cache
from typing import Any

WATCHING = "_LETHE_ENDS_WITH_PARENT"


def end_children_with_us() -> None:
    """Let the processes that vLLM starts from here on end with those that started them.

    Told by the environment: vLLM loads the plugin in engines of others too, where this is not ours to decide.
    """
    os.environ[WATCHING] = "1"


@cache
def end_with_parent() -> None:
    """Called in every process of an engine; only the first call does anything."""
    parent = multiprocessing.parent_process()
    if WATCHING in os.environ and parent is not None:
        threading.Thread(target=_watch, args=(parent,), name="lethe-parent", daemon=True).start()


def _watch(parent: Any) -> None:
    """Not the kernel's signal for it (PR_SET_PDEATHSIG), which comes when the thread that started us ends."""
    parent.join()  # a pipe that the kernel closes with the parent
    os._exit(1)
