"""``lethe reproduce`` on its command line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lethe_offsets.comparison.command import app
from lethe_offsets.errors import InvalidInput

SHOW_HELP = """
import sys
from lethe_offsets.comparison.command import app
try:
    app(["tofu", "--help"])
except SystemExit:
    print("torch" in sys.modules)
"""


def test_help_names_every_option_without_importing_torch() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW_HELP], capture_output=True, text=True, check=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert all(f"--{name}" in plain for name in ("tofu", "out", "size", "split", "methods", "seeds", "jobs", "device"))
    assert plain.splitlines()[-1] == "False"


def test_a_dry_run_plans_every_step_and_builds_nothing(tofu: Path, tmp_path: Path) -> None:
    words = ["tofu", "--tofu", str(tofu), "--out", str(tmp_path / "out"), "--dry-run", "--jobs", "2", "--seeds", "3"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    rows = [re.split(r"\s*[│┃]\s*", line.strip("│┃ ")) for line in result.output.splitlines() if "│" in line]
    counts = {row[0]: row[1] for row in rows if len(row) == 4}
    # 6 direct methods at 3 rates; 11 offset methods and 2 pairs at 3 rates, and 2 further seeds of the 2 best;
    # target, retrain, 17 and 4 pairs, and the further seeds are judged.
    assert {key: counts[key] for key in ("large", "retrained", "small", "clean")} == dict.fromkeys(
        ("large", "retrained", "small", "clean"), "1"
    )
    assert counts["direct"] == "18"
    assert counts["offset"] == "43"
    assert counts["judged"] == "27"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--split", "forget20", "split: got 'forget20'; accepted: forget01, forget05, forget10"),
        ("--methods", "npo", "methods: got 'npo'; accepted: .*direct-npo"),
        ("--tofu", "/nowhere", "tofu: got '/nowhere'; accepted: TOFU's folder, which holds full.json"),
    ],
)
def test_what_does_not_exist_is_refused(option: str, value: str, message: str, tofu: Path, tmp_path: Path) -> None:
    words = ["tofu", "--tofu", str(tofu), "--out", str(tmp_path / "out"), option, value]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, InvalidInput)
    assert re.search(message, str(result.exception))
