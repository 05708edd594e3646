"""Jobs in processes of their own."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console

from lethe_offsets.comparison.pool import Job, Pool, _run, _start
from lethe_offsets.errors import InvalidInput, LetheError
from lethe_offsets.training.progress import Report


def write_process(out: Path, report: Report) -> None:
    report("writing", 1, 1, "now")
    out.write_text(f"{os.getpid()} {torch.get_num_threads()}", encoding="utf-8")


def refuse(report: Report) -> None:
    raise InvalidInput("rate", 7, "a smaller one")


@pytest.mark.parametrize("workers", [1, 2])
def test_each_job_has_a_process_of_its_own_on_one_core(tmp_path: Path, workers: int) -> None:
    files = [tmp_path / str(number) for number in range(6)]
    with Pool(workers, "cpu", Console(file=io.StringIO())) as pool:
        for half in (files[:3], files[3:]):
            pool.run("phase", [Job(file.name, partial(write_process, file)) for file in half])
    found = [file.read_text(encoding="utf-8").split() for file in files]
    assert {threads for _, threads in found} == {"1"}
    assert len({process for process, _ in found} - {str(os.getpid())}) == 6


def wait_long(out: Path, report: Report) -> None:
    out.write_text(str(os.getpid()), encoding="utf-8")
    report("waiting", 1, 2)
    try:
        time.sleep(600.0)
    finally:
        out.with_suffix(".end").touch()


def refuse_after(out: Path, report: Report) -> None:
    while not out.is_file() or not out.read_text(encoding="utf-8"):
        time.sleep(0.05)
    refuse(report)


def test_an_error_ends_what_is_under_way(tmp_path: Path) -> None:
    out = tmp_path / "process"
    jobs = [Job("long", partial(wait_long, out)), Job("bad", partial(refuse_after, out))]
    with pytest.raises(LetheError, match="bad: rate: got 7"), Pool(2, "cpu", Console(quiet=True)) as pool:
        pool.run("phase", jobs)
    assert out.with_suffix(".end").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(out.read_text(encoding="utf-8")), 0)


def send_after_signal(out: Path) -> None:
    _start(None)
    problem = _run(Job("bad", refuse))
    os.kill(os.getpid(), signal.SIGTERM)
    out.write_text(str(problem), encoding="utf-8")


def test_a_signal_leaves_the_result_that_is_being_sent(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=send_after_signal, args=(tmp_path / "problem",))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (tmp_path / "problem").read_text(encoding="utf-8").startswith("bad: rate: got 7")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_a_job_refuses_is_said_with_the_field_and_the_value(device: str) -> None:
    with (
        pytest.raises(LetheError, match="rate: got 7; accepted: a smaller one"),
        Pool(1, device, Console(quiet=True)) as pool,
    ):
        pool.run("phase", [Job("bad", refuse)])
