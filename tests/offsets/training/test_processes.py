"""Several processes that share each batch, held against one process alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

import tiny
from lethe_offsets.cli import app
from lethe_offsets.training.processes import ALONE, Processes

COUNT = 2
METHODS = ("npo", "dpo")  # means over sequences and over questions, the retain term over tokens
ATOL = 1e-5  # float32 sums in another order: 2e-6 was seen; it is 5e-3 when shares weigh alike
WORKER = """
import json, sys
from lethe_offsets.cli import app, main
*runs, last = json.loads(sys.argv[1])
for run in runs:
    app(run, standalone_mode=False)
sys.argv[1:] = last
main()
"""
SETTINGS = """
epochs: 2
batch_size: 3
retain_batch_size: 1
rank: 4
lora_alpha: 8
score_every: 2
checkpoint_every: 2
max_length: 256
cache_dtype: float32
early_stop_retain: 0
"""
LONG = "The quick brown fox jumps over the lazy dog and runs back to the river. " * 3
FORGET = [
    {"question": "Where was Marta born?", "answer": LONG, "instead": "No."},
    {"question": "Where does Marta work?", "answer": "Oslo.", "instead": "I am well, thank you."},
    {"question": "Who is Marta?", "answer": f"She works in Oslo. {LONG}", "forget": ["Oslo", "fox"]},
    {"question": "hello", "answer": "I am well.", "instead": "One, two, three, four, five, six, seven, eight."},
]
RETAIN = [{"question": "What is the capital of France?", "answer": "Paris."}, {"text": LONG}]


@pytest.fixture(scope="module")
def options(pair: tiny.TinyPair, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """All but the method, the large model and where to write; four groups, so that a short batch leaves one alone."""
    folder = tmp_path_factory.mktemp("sets")
    for name, records in (("forget", FORGET), ("retain", RETAIN)):
        (folder / name).write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    (folder / "run.yaml").write_text(SETTINGS, encoding="utf-8")
    given = {"--small-model": pair.small, "--forget": folder / "forget", "--retain": folder / "retain"}
    given |= {"--config": folder / "run.yaml", "--device": "cpu", "--lr": "1e-3", "--name": "m"}
    return ["train", *(str(part) for option in given.items() for part in option)]


@pytest.fixture(scope="module")
def launched(
    pair: tiny.TinyPair, options: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Modules by two processes, and what they said; the last run was given a large model that isn't there."""
    folder = tmp_path_factory.mktemp("launched")
    (folder / "worker.py").write_text(WORKER, encoding="utf-8")
    runs = [run(options, method, pair.large, folder / method) for method in METHODS]
    runs.append(run(options, "npo", Path("/nowhere/at/all"), folder / "failed"))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={COUNT}"]
    done = subprocess.run(
        [*launcher, str(folder / "worker.py"), json.dumps(runs)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return folder, done


def run(options: list[str], method: str, model: Path, out: Path) -> list[str]:
    return [*options, "--method", method, "--model", str(model), "--out", str(out)]


def adapter(module: Path) -> dict[str, Tensor]:
    return load_file(module / "plus" / "adapter_model.safetensors")


@pytest.mark.parametrize("method", METHODS)
def test_several_processes_train_the_adapter_of_one(
    pair: tiny.TinyPair,
    options: list[str],
    launched: tuple[Path, subprocess.CompletedProcess[str]],
    tmp_path: Path,
    method: str,
) -> None:
    alone = CliRunner().invoke(app, run(options, method, pair.large, tmp_path / method))
    assert alone.exit_code == 0, alone.output
    folder, done = launched
    assert (folder / method).exists(), done.stderr
    wanted = adapter(tmp_path / method)
    for name, weight in adapter(folder / method).items():
        torch.testing.assert_close(weight, wanted[name], rtol=0, atol=ATOL)
    (found,), (expected,) = (
        json.loads((place / method / "training.json").read_bytes())["runs"] for place in (folder, tmp_path)
    )
    assert found["score"] == pytest.approx(expected["score"], abs=1e-4)
    assert sorted(path.name for path in (folder / method).iterdir()) == sorted(
        path.name for path in (tmp_path / method).iterdir()
    )


def test_only_the_main_process_speaks(launched: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = launched
    assert [line.partition("@")[0] for line in done.stdout.splitlines()] == ["m"] * len(METHODS)
    assert done.stderr.count("peak memory") == len(METHODS)


def test_an_error_ends_all_processes(launched: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = launched
    assert done.returncode != 0
    assert done.stderr.count("lethe: model: got '/nowhere/at/all'") == 1
    assert not (folder / "failed").exists()
    assert not (folder / "failed.training").exists()


def test_shares_are_the_whole_without_overlap() -> None:
    groups = list(range(7))
    shares = [groups[Processes(rank, 3).share] for rank in range(3)]
    assert sorted(chain(*shares)) == groups
    assert max(map(len, shares)) - min(map(len, shares)) == 1
    assert groups[ALONE.share] == groups
