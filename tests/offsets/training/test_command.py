"""``lethe train`` from its command line to a module."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

import tiny
from lethe_offsets.cli import app
from lethe_offsets.errors import InvalidInput
from lethe_offsets.module import Module
from lethe_offsets.training.command import METHODS
from lethe_offsets.training.data import read_examples
from lethe_offsets.training.methods import METHODS as ALL_METHODS
from lethe_offsets.training.reference import load_model
from top_k import record_model

SETTINGS = "epochs: 4\nbatch_size: 2\nlora_alpha: 8\nscore_every: 2\nmax_length: 128\n"


@pytest.fixture
def arguments(pair: tiny.TinyPair, forget_file: Path, retain_file: Path, tmp_path: Path) -> list[str]:
    """All but the large model, for a module at ``tmp_path / "m"``."""
    config = tmp_path / "run.yaml"
    config.write_text(SETTINGS, encoding="utf-8")
    options = {"--small-model": pair.small, "--forget": forget_file, "--retain": retain_file, "--config": config}
    options |= {"--out": tmp_path / "m", "--device": "cpu", "--rank": 4}
    return ["train", *(str(part) for option in options.items() for part in option)]


def lethe(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, list(arguments))


def refused(result: Result, out: Path) -> str:
    """The message, when nothing was written."""
    assert isinstance(result.exception, InvalidInput), result.output
    assert not out.exists()
    assert not out.with_name(f"{out.name}.training").exists()
    return str(result.exception)


def test_a_sweep_keeps_the_best_rate_and_says_what_it_took(
    pair: tiny.TinyPair, arguments: list[str], tmp_path: Path
) -> None:
    words = ("--name", "forget-marta", "--description", "A woman.", "--version", "2", "--licence", "MIT")
    result = lethe(*arguments, "--model", str(pair.large), "--method", "undial", "--lr", "1e-4,5e-3", *words)
    assert result.exit_code == 0, result.output
    module = Module.open(tmp_path / "m")
    assert result.stdout == f"{module.ref}\n"
    manifest = module.manifest
    assert (manifest.name, manifest.description, manifest.version, manifest.licence) == words[1::2]
    assert manifest.algorithm == "offset unlearning, undial and kl"
    assert manifest.hyperparameters["epochs"] == 4, "the file's, in place of the method's"
    assert manifest.hyperparameters["rank"] == 4, "the flag's"
    assert manifest.hyperparameters["learning_rate"] == 5e-3
    runs = {
        run["learning_rate"]: run["score"] for run in json.loads((module.path / "training.json").read_text())["runs"]
    }
    assert runs[5e-3] > runs[1e-4]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stderr.splitlines()]
    assert [(row[0], row[-2], row[-1]) for row in rows if len(row) == 6] == [
        ("0.0001", f"{runs[1e-4]:.3f}", ""),
        ("0.005", f"{runs[5e-3]:.3f}", "kept"),
    ]
    assert re.search(r"^\d+ s, peak memory \d{2,} MiB$", result.stderr, flags=re.MULTILINE)
    assert not (tmp_path / "m.training").exists()


def test_a_recording_takes_the_place_of_the_large_model(
    pair: tiny.TinyPair,
    words: PreTrainedTokenizerFast,
    arguments: list[str],
    forget_file: Path,
    retain_file: Path,
    tmp_path: Path,
) -> None:
    sets = [read_examples(file, words, role, 128) for file, role in ((forget_file, "forget"), (retain_file, "retain"))]
    recording = tmp_path / "large.safetensors"
    record_model(load_model(pair.large), [example for of in sets for example in of], words, 384, recording)
    recorded = lethe(*arguments, "--logits", str(recording))
    assert recorded.exit_code == 0, recorded.output
    assert Module.open(tmp_path / "m").manifest.large_model == "local"
    (run,) = json.loads((tmp_path / "m" / "training.json").read_text())["runs"]
    shutil.rmtree(tmp_path / "m")
    whole = lethe(*arguments, "--model", str(pair.large))
    assert whole.exit_code == 0, whole.output
    (other,) = json.loads((tmp_path / "m" / "training.json").read_text())["runs"]
    assert [score["forget"] for score in run["scores"]] == pytest.approx(
        [score["forget"] for score in other["scores"]], rel=0.05
    ), "the whole vocabulary was recorded"
    retain_file.write_text('{"question": "hello", "answer": "Good day."}\n', encoding="utf-8")
    shutil.rmtree(tmp_path / "m")
    assert "recording: data" in refused(lethe(*arguments, "--logits", str(recording)), tmp_path / "m")


def test_an_unbounded_method_is_warned_of(pair: tiny.TinyPair, arguments: list[str], tmp_path: Path) -> None:
    result = lethe(*arguments, "--model", str(pair.large), "--method", "grad_ascent", "--lr", "1e-6", "--epochs", "1")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "grad_ascent has no minimum" in said
    assert "falls below 0.8 of its start" in said
    bounded = lethe(*arguments[:-2], "--model", str(pair.large), "--out", str(tmp_path / "b"), "--epochs", "1")
    assert "no minimum" not in bounded.stderr


def test_the_parts_of_a_forget_set_are_trained_by_themselves(
    pair: tiny.TinyPair, arguments: list[str], forget_file: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in forget_file.read_text(encoding="utf-8").splitlines()]
    rows = [json.dumps({**line, "city": number}) + "\n" for number, line in enumerate(lines)]
    forget_file.write_text("".join(rows), encoding="utf-8")
    result = lethe(*arguments, "--model", str(pair.large), "--split-by", "city", "--epochs", "1")
    assert result.exit_code == 0, result.output
    module = Module.open(tmp_path / "m")
    assert result.stdout == f"{module.ref}\n"
    assert "part 2 of 2: forget module" in result.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--method", "nop"), "did you mean npo?"),
        (("--lr", "1e-3,fast"), "lr: got '1e-3,fast'; accepted: different numbers between 0 and 1"),
        (("--lr", "1e-3,1e-3"), "lr: got '1e-3,1e-3'"),
        (("--lr", ""), "lr: got ''"),
        (("--lr", "2"), "lr: got '2'"),
        (("--device", "abacus"), "device: got 'abacus'"),
        (("--rank", "0"), "rank"),
        (("--model", "large", "--out", "."), "out: got '.'"),
        ((), "model, logits"),
    ],
)
def test_bad_options_are_refused(arguments: list[str], tmp_path: Path, given: tuple[str, ...], said: str) -> None:
    assert said in refused(lethe(*arguments, *given), tmp_path / "m")


def test_the_help_names_every_method() -> None:
    assert METHODS.split(", ") == list(ALL_METHODS)
    result = lethe("train", "--help")
    plain = " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())
    assert "min(1, retain / retain before) - forget / forget before" in plain
    assert "--early-stop" not in plain
