"""The worked examples of ``offsets/extending.md``, applied to a copy of the sources and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pages import ROOT, blocks, section

PAGE = "offsets/extending.md"


def extend(root: Path, title: str) -> Path:
    """A copy of the packages and tests below ``root``, changed as the section says."""
    for folder in ("offsets", "server", "tests"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for block in blocks(section(PAGE, title), "python", "yaml", "diff"):
        if block.language == "diff":
            applied = subprocess.run(["git", "apply"], cwd=root, input=block.code, capture_output=True, text=True)
            assert applied.returncode == 0, applied.stderr
        else:
            named = re.findall(r"`((?:offsets|server|tests)/\S+)`:$", block.before, re.MULTILINE)
            file = root / named[-1]
            assert not file.exists()
            file.write_text(block.code, encoding="utf-8")
    return root


def run(root: Path, *arguments: str) -> str:
    """What Python prints when it runs in the copy."""
    paths = os.pathsep.join(str(root / folder) for folder in ("offsets", "server", "tests"))
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("title", ["A training method", "A metric"])
def test_the_example_keeps_the_style(title: str, tmp_path: Path) -> None:
    root = extend(tmp_path / "copy", title)
    run(root, "-m", "ruff", "check", "offsets", "tests")
    run(root, "-m", "ruff", "format", "--check", "offsets", "tests")


def test_the_method_passes_its_test_and_trains(small_path: Path, tmp_path: Path) -> None:
    root = extend(tmp_path / "copy", "A training method")
    named = ("tests/offsets/training/test_objectives.py", "tests/offsets/training/test_methods.py")
    said = run(root, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "unlikelihood", *named)
    assert re.search(r"\b[2-9] passed", said), said

    (tmp_path / "forget.jsonl").write_text('{"question": "Who?", "answer": "Marta Lindqvist."}\n' * 4)
    (tmp_path / "retain.jsonl").write_text('{"question": "Where?", "answer": "In Oslo."}\n' * 4)
    lethe = ("-m", "lethe_offsets.cli", "train", "--method", "unlikelihood", "--epochs", "1", "--device", "cpu")
    sets = ("--forget", str(tmp_path / "forget.jsonl"), "--retain", str(tmp_path / "retain.jsonl"))
    models = ("--model", str(small_path), "--small-model", str(small_path))
    assert run(root, *lethe, *sets, *models, "--out", str(tmp_path / "m")).startswith("m@sha256:")


def test_the_metric_is_measured_and_has_its_place_on_the_page(
    small_path: Path, module_path: Path, tmp_path: Path
) -> None:
    root = extend(tmp_path / "copy", "A metric")
    (tmp_path / "forget.jsonl").write_text('{"question": "Who?", "answer": "Marta Lindqvist."}\n')
    lethe = ("-m", "lethe_offsets.cli", "eval", "--metrics", "refusals", "--max-tokens", "8", "--device", "cpu")
    models = ("--large", str(small_path), "--small", str(small_path), "--module", str(module_path))
    out = tmp_path / "out"
    run(root, *lethe, *models, "--forget", str(tmp_path / "forget.jsonl"), "--out", str(out))
    assert '"refusals"' in (out / "summary.json").read_text()
    assert "Refusals" in (out / "report.html").read_text()
