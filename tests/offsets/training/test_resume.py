"""A process that is killed, and the run that goes on after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny
from lethe_offsets.training.checkpoint import CHECKPOINT_FILE
from lethe_offsets.training.methods import load_method
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.recipe import train_module
from lethe_offsets.training.sweep import RESULT_FILE, rate_folder

SETTINGS = "epochs: 60\nbatch_size: 1\nrank: 4\nscore_every: 7\ncheckpoint_every: 5\nearly_stop_retain: 0.1\n"
RATES = (1e-4, 1e-3)
PATIENCE_S = 300.0


def test_a_killed_run_goes_on_to_the_module_of_an_uninterrupted_one(
    pair: tiny.TinyPair, forget_file: Path, retain_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    config = tmp_path / "run.yaml"
    config.write_text(SETTINGS, encoding="utf-8")
    out = tmp_path / "killed" / "m"
    _kill_in_the_second_rate(pair, forget_file, retain_file, config, out)
    assert not out.exists()

    def train(place: Path, report: Report = silent) -> str:
        module = train_module(
            load_method(None, config),
            name="m",
            large_model=str(pair.large),
            small_model=str(pair.small),
            forget_set=str(forget_file),
            retain_set=str(retain_file),
            out=place,
            rates=RATES,
            report=report,
        )
        return module.digest

    said: list[tuple[str, int]] = []
    resumed = train(out, lambda label, done, total, note="": said.append((label, done)))
    labels = {label for label, _ in said}
    assert "learning rate 0.0001" not in labels, "the first rate was finished"
    first = min(done for label, done in said if label == "learning rate 0.001")
    assert first > 5, "it goes on after a checkpoint"
    assert resumed == train(tmp_path / "whole" / "m")


def _kill_in_the_second_rate(pair: tiny.TinyPair, forget: Path, retain: Path, config: Path, out: Path) -> None:
    """Start ``lethe train`` and end it by SIGKILL as soon as the second learning rate has a checkpoint."""
    options = {"--model": pair.large, "--small-model": pair.small, "--forget": forget, "--retain": retain}
    options |= {"--config": config, "--out": out, "--lr": ",".join(map(str, RATES)), "--device": "cpu"}
    command = [
        sys.executable,
        "-m",
        "lethe_offsets.cli",
        "train",
        *map(str, [x for pair in options.items() for x in pair]),
    ]
    folder = rate_folder(out.with_name("m.training"), RATES[1])
    log = out.parent.with_name("log")
    with (
        log.open("wb") as said,
        subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=said, stderr=said) as process,
    ):
        ends = time.monotonic() + PATIENCE_S
        while not (folder / CHECKPOINT_FILE).exists() and process.poll() is None and time.monotonic() < ends:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, log.read_text()
    assert (folder / CHECKPOINT_FILE).exists()
    assert not (folder / RESULT_FILE).exists()
