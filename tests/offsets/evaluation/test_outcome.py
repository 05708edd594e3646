from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation.metrics import Settings
from lethe_offsets.evaluation.outcome import About, Data, Measured, Outcome

SUMMARY = {"rouge": {"forget": 0.25, "retain": 1.0}, "forget_quality": {"forget_quality": 0.5, "statistic": math.inf}}


@pytest.fixture
def outcome() -> Outcome:
    module = Measured(identity="m", summary=SUMMARY, items={"rouge": [{"value": 0.25, "said": "Oslo"}]})
    return Outcome(
        lethe="1",
        created="2026-01-01T00:00:00+00:00",
        where="in process",
        about=About(ref="m@sha256:0"),
        data=Data(split="forget10", digest="sha256:1", sizes={"forget": 1}),
        settings=Settings(),
        reference=None,
        models={"module": module},
    )


def test_it_is_read_as_it_was_written_and_the_summary_has_no_items(outcome: Outcome, tmp_path: Path) -> None:
    outcome.write(tmp_path)
    assert Outcome.read(tmp_path) == outcome
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "Oslo" not in (tmp_path / "summary.json").read_text()
    assert summary["models"]["module"]["summary"] == SUMMARY


def test_a_modules_scores_are_finite_numbers_by_name(outcome: Outcome) -> None:
    assert json.loads(outcome.scores_json()) == {
        "rouge.forget": 0.25,
        "rouge.retain": 1.0,
        "forget_quality": 0.5,
        "data": "forget10",
        "measured": "2026-01-01T00:00:00+00:00",
        "lethe": "1",
    }


def test_a_folder_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"eval: got .*; accepted: a folder that lethe eval has written"):
        Outcome.read(tmp_path)
    (tmp_path / "eval.json").write_text('{"lethe": "1"}')
    with pytest.raises(InvalidInput, match="Field required"):
        Outcome.read(tmp_path)
