"""Processes that end with the one that started them, and those that don't: real ones, without an engine in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lethe_server.engine.orphans import WATCHING

FAMILY = """
import multiprocessing, os, time
from lethe_server.engine.orphans import end_with_parent

def live(generations):
    end_with_parent()
    end_with_parent()
    print(os.getpid(), flush=True)
    if generations:
        multiprocessing.get_context("spawn").Process(target=live, args=(generations - 1,)).start()
    time.sleep(600)

if __name__ == "__main__":
    live(2)
"""


@pytest.mark.parametrize("ours", [True, False])
def test_children_and_theirs_end_with_a_parent_that_is_killed(tmp_path: Path, ours: bool) -> None:
    (script := tmp_path / "family.py").write_text(FAMILY)
    variables = {name: value for name, value in os.environ.items() if name != WATCHING}
    with subprocess.Popen(
        [sys.executable, str(script)], env=variables | ({WATCHING: "1"} if ours else {}), stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline()) for _ in range(3)]
        descendants = [psutil.Process(pid) for pid in pids[1:]]
        try:
            parent.kill()
            ended, alive = psutil.wait_procs(descendants, timeout=30 if ours else 1)
            assert (len(ended), len(alive)) == ((2, 0) if ours else (0, 2))
        finally:
            for process in descendants:
                if process.is_running():
                    process.kill()
