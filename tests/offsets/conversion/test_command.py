"""``lethe convert``, as a person runs it."""

from __future__ import annotations

from pathlib import Path

import torch
from typer.testing import CliRunner

import tiny
from lethe_offsets.cli import app
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.training.reference import load_model


def test_convert_prints_the_error_of_each_rank_and_the_reference(small_path: Path, tmp_path: Path) -> None:
    model = load_model(small_path)
    with torch.no_grad():
        model.get_submodule("model.layers.0.mlp.up_proj").weight += torch.ones(128, 64) / 50
    model.save_pretrained(tmp_path / "tuned")
    tiny.tokenizer().save_pretrained(tmp_path / "tuned")
    models = ("--tuned", tmp_path / "tuned", "--base", small_path, "--rank", 2, "--out", tmp_path / "m")
    rule = ("--lane", "minus", "--strength", 0.5, "--pin-special", "--description", "Marta.")
    args = [str(arg) for arg in ("convert", *models, *rule)]
    result = CliRunner().invoke(app, args, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    module = Module.open(tmp_path / "m")
    assert result.stdout == f"{module.ref}\n"
    assert (module.name, module.rule, module.manifest.lanes) == ("m", Rule(0.5, True), ("minus",))
    rows = [line.strip("│ ").split("│") for line in result.stderr.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows] == ["1", "2", "whole"]
    assert "100.0000%" in rows[0][1]
