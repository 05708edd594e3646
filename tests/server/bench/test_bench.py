"""``lethe bench`` from end to end, on models too small to be fast or slow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from on_demand import on_demand

ARGUMENTS = (
    *("--tiny", "--eager", "--ratios", "16", "--concurrency", "2", "--prompts", "8,40"),
    *("--output-tokens", "8", "--rounds", "1", "--no-peers", "--modules", "0"),
)


def bench(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    folders = ("--out", str(out), "--work", str(out / "work"))
    command = [sys.executable, "-m", "lethe_offsets.cli", "bench", *folders, *ARGUMENTS, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)


@on_demand
@pytest.mark.engine
def test_a_run_measures_reports_and_is_continued(tmp_path: Path) -> None:
    first = bench(tmp_path)
    assert first.returncode == 0, first.stderr[-3000:]
    results = (tmp_path / "results.jsonl").read_text().splitlines()
    systems = [(line["system"], line["prompt"]) for line in map(json.loads, results[1:]) if line["stage"] == "cell"]
    assert systems == [("plain vLLM", 8), ("Lethe", 8), ("plain vLLM", 40), ("Lethe", 40)]
    table = (tmp_path / "table.md").read_text()
    assert table.count("| 16:1 | 2 | 40 | Lethe |") == 1
    assert "The models are tiny" in table
    goals = (tmp_path / "goals.md").read_text()
    for bound in ("bound", "cold bound"):
        (line,) = (line for line in goals.splitlines() if f"of the {bound}, concurrency 2" in line)
        assert "not measured" not in line
    assert "pair: adapters" in (tmp_path / "profile.md").read_text()
    assert (tmp_path / "bench.png").stat().st_size > 10_000
    again = bench(tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]
    assert (tmp_path / "results.jsonl").read_text().splitlines() == results

    other = bench(tmp_path, "--rounds", "2")
    assert other.returncode == 1
    assert "another settings" in other.stderr
    assert (tmp_path / "results.jsonl").read_text().splitlines() == results
