"""Processes of a benchmark: their environment, their start, their end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lethe_offsets.heap import HUGE_PAGES, tunables

STOP_S = 60.0


def environment(cache: Path) -> dict[str, str]:
    """This process's environment without what would change a measurement. cache: where compiled code is kept.

    Every system gets the huge pages that Lethe's server asks for, so that no ratio is theirs.
    """
    foreign = ("LETHE_", "VLLM_CPU_KVCACHE_SPACE", "OPENAI_API_KEY")
    with tunables(*HUGE_PAGES):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    quiet = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    caches = {"VLLM_CACHE_ROOT": str(cache / "vllm"), "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor")}
    return {**kept, **quiet, **caches}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def spawned(command: Sequence[str], cache: Path, log: Path, piped: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own; at the end it is asked to stop, and its group is ended if it doesn't.

    What it prints goes to ``log``; with ``piped`` only its errors do, and its input and output are pipes.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    pipe = subprocess.PIPE if piped else None
    with (
        log.open("ab") as out,
        subprocess.Popen(
            list(command),
            env=environment(cache),
            start_new_session=True,
            text=True,
            stdin=pipe,
            stdout=pipe or out,
            stderr=out,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def log_end(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]
