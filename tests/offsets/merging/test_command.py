"""``lethe merge`` and ``lethe module inputs``, as a person runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lethe_offsets.cli import app
from lethe_offsets.errors import InvalidInput
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule


def lethe(*args: object) -> str:
    """What it prints. Raises what the command raises."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.removesuffix("\n")


def test_merge_writes_a_module_and_prints_its_reference(anna: Module, bert: Module, tmp_path: Path) -> None:
    options = ("--method", "ties_svd", "--weight", 1, "--weight", 0.5, "--density", 0.3, "--rank", 6)
    words = ("--name", "both", "--description", "Two people.", "--version", "2")
    printed = lethe("merge", anna.path, bert.path, *options, *words, "--out", tmp_path / "m")
    merged = Module.open(tmp_path / "m")
    assert printed == merged.ref
    assert (merged.name, merged.manifest.version, merged.manifest.description) == ("both", "2", "Two people.")
    recorded = merged.manifest.hyperparameters
    assert (recorded["weights"], recorded["density"]) == ([1.0, 0.5], 0.3)
    assert merged.adapters()["plus"].rank == 6


def test_the_name_is_the_directorys_and_dare_is_dare_linear(anna: Module, bert: Module, tmp_path: Path) -> None:
    lethe("merge", anna.path, bert.path, "--method", "dare", "--out", tmp_path / "m")
    merged = Module.open(tmp_path / "m")
    assert merged.name == "m"
    assert merged.manifest.algorithm == "merge, dare_linear"
    assert merged.manifest.hyperparameters["density"] == 0.5


def test_rules_are_settled_by_options(make: object, anna: Module, tmp_path: Path) -> None:
    other = make("lena", seed=30, rule=Rule(strength=0.7))  # type: ignore[operator]
    both = (anna.path, other.path, "--method", "cat")
    with pytest.raises(InvalidInput, match="--rule-from"):
        lethe("merge", *both, "--out", tmp_path / "m")
    lethe("merge", *both, "--rule-from", other.path, "--strength", 0.9, "--out", tmp_path / "m")
    assert Module.open(tmp_path / "m").rule == Rule(strength=0.9)


def test_inputs_are_written_beside_the_module_and_read_by_regression(
    small_path: Path, make: object, tmp_path: Path
) -> None:
    modules = [make("mia", seed=31), make("nils", seed=32)]  # type: ignore[operator]
    forget = tmp_path / "forget.jsonl"
    forget.write_text('{"question": "Where was Marta born?", "answer": "She was born in Bergen."}\n')
    for module in modules:
        written = lethe("module", "inputs", module.path, "--small-model", small_path, "--forget", forget)
        assert written == f"{module.path}.gram.safetensors"
    lethe("merge", *(module.path for module in modules), "--method", "regression", "--out", tmp_path / "m")
    assert Module.open(tmp_path / "m").manifest.algorithm == "merge, regression"


def test_help_says_what_to_choose() -> None:
    result = CliRunner().invoke(app, ["merge", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for word in ("harms adds up", "diluted", "regression", "--weight", "--rule-from"):
        assert word in result.stdout
