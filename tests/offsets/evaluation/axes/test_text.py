"""Repetition and likeness."""

from __future__ import annotations

import pytest

from lethe_offsets.evaluation.axes import text
from lethe_offsets.evaluation.axes.text import likeness, repetition


@pytest.mark.parametrize(
    ("tokens", "n", "share"),
    [
        ([1, 2, 3, 4], 2, 0.0),
        ([1, 2, 1, 2, 1], 2, 0.5),  # 12 21 12 21: two of four are repeats
        ([5, 5, 5, 5], 1, 3 / 4),
        ([1, 2], 2, 0.0),
        ([1], 2, None),
    ],
)
def test_repetition_is_the_share_of_repeats(tokens: list[int], n: int, share: float | None) -> None:
    assert repetition(tokens, n) == share


def test_likeness_knows_a_neighbour_from_a_stranger() -> None:
    (row,) = likeness(["Where was Marta Lindqvist born?"], ["Where was Martha Lindquist born?", "Who wrote Hamlet?"])
    assert row[0] > 0.5 > 0.2 > row[1] >= 0.0
    assert [*likeness(["same text"], ["same text"])] == [pytest.approx([1.0])]


def test_many_texts_are_compared_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"question {number}" for number in range(7)]
    whole = [*likeness(texts, texts[:3])]
    monkeypatch.setattr(text, "CHUNK", 3)
    assert [*likeness(texts, texts[:3])] == [pytest.approx(row) for row in whole]
    assert [len(row) for row in whole] == [3] * 7
