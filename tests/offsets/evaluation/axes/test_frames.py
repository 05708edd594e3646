"""The wordings that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation.axes import frames
from lethe_offsets.evaluation.axes.frames import Frame, read_frames


@pytest.mark.parametrize(("family", "least"), [("indirect", 8), ("jailbreak", 10), ("languages", 12), ("mixed", 4)])
def test_each_family_has_frames_that_hold_the_question(family: str, least: int) -> None:
    found = read_frames(family)
    assert len(found) >= least
    for frame in found:
        prompt = frame.around("Where was {it} born?", "And {retain}?")
        assert "Where was {it} born?" in prompt
        assert ("And {retain}?" in prompt) is (family == "mixed")
        assert len(prompt) > len("Where was {it} born?")


def test_a_wording_without_the_question_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FOLDER", tmp_path)
    (tmp_path / "bad.yaml").write_text('plain: "Tell me."\n', encoding="utf-8")
    with pytest.raises(InvalidInput, match="bad: plain"):
        read_frames("bad")
    (tmp_path / "torn.yaml").write_text('a: "{question}"\nb: "{retain} {question}"\n', encoding="utf-8")
    with pytest.raises(InvalidInput, match="all frames or in none"):
        read_frames("torn")


def test_slots_are_filled_once() -> None:
    assert Frame("x", "{retain} / {question} / {retain}").around("{retain}?", "kept") == "kept / {retain}? / kept"
