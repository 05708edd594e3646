"""How processes that are started keep their memory."""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console

from lethe_offsets.comparison.pool import Job, Pool
from lethe_offsets.heap import KEPT, VARIABLE, tunables
from lethe_offsets.training.progress import Report


def faults() -> int:
    """Page faults of fifty sums of 64 MiB."""
    torch.ones(2**22).sum()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        torch.ones(2**24).add(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def count_faults(out: Path, report: Report) -> None:
    out.write_text(str(faults()), encoding="utf-8")


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="only glibc gives memory back at once")
def test_what_a_job_frees_is_there_for_the_next(tmp_path: Path) -> None:
    with Pool(1, "cpu", Console(file=io.StringIO())) as pool:
        pool.run("phase", [Job("faults", partial(count_faults, tmp_path / "kept"))])
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as plain:
        assert 4 * int((tmp_path / "kept").read_text(encoding="utf-8")) < plain.submit(faults).result()


def test_what_the_user_has_set_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "glibc.malloc.mmap_max=7")
    with tunables(*KEPT):
        assert os.environ[VARIABLE].endswith(":glibc.malloc.mmap_max=7")
    assert os.environ[VARIABLE] == "glibc.malloc.mmap_max=7"
