"""Memory that a process keeps."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lethe_offsets.comparison.memory import VARIABLE, keeping_memory

FAULTS = """
import resource
import torch
torch.set_num_threads(1)
torch.ones(2**22).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    torch.ones(2**24).add(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults() -> int:
    """Page faults of fifty sums of 64 MiB, in a process of its own."""
    return int(subprocess.check_output([sys.executable, "-c", FAULTS], text=True))


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="only glibc gives memory back at once")
def test_what_is_freed_is_there_for_the_next() -> None:
    with keeping_memory():
        kept = faults()
    assert 4 * kept < faults()


def test_what_the_user_has_set_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "glibc.malloc.mmap_max=7")
    with keeping_memory():
        assert os.environ[VARIABLE].endswith(":glibc.malloc.mmap_max=7")
    assert os.environ[VARIABLE] == "glibc.malloc.mmap_max=7"
