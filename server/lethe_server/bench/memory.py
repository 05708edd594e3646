"""Memory of a process and all its children."""

from __future__ import annotations

import shutil
import subprocess

import psutil  # type: ignore[import-untyped]  # comes with vLLM

MIB = 2**20


def memory(pid: int) -> dict[str, float | None]:
    return {"host_mib": host_mib(pid), "device_mib": device_mib(pid)}


def host_mib(pid: int) -> float:
    """Proportional set size, MiB: pages that processes share are counted once among them."""
    total = 0
    for process in _tree(pid):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / MIB


def device_mib(pid: int) -> float | None:
    """What NVIDIA's driver says they hold, MiB; None without such a driver, or where it numbers processes otherwise
    (containers).
    """
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    pids = {process.pid for process in _tree(pid)}
    held = (line.split(",") for line in lines if line.strip())
    ours = [float(used) for owner, used in held if int(owner) in pids]
    return sum(ours) if ours else None


def _tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
