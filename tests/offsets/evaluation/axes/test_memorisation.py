"""Flags of greedy tokens, by hand."""

from __future__ import annotations

import pytest

from lethe_offsets.evaluation.axes.memorisation import exact_memorisation, extraction_strength


@pytest.mark.parametrize(
    ("greedy", "exact", "strength"),
    [
        ("1111", 1.0, 1.0),
        ("0111", 3 / 4, 3 / 4),  # the first token has to be given
        ("1101", 3 / 4, 1 / 4),  # up to the third, whatever came before it
        ("1110", 3 / 4, 0.0),  # not even the last one comes by itself
        ("0000", 0.0, 0.0),
        ("1", 1.0, 1.0),
    ],
)
def test_how_much_of_an_answer_comes_word_for_word(greedy: str, exact: float, strength: float) -> None:
    flags = [flag == "1" for flag in greedy]
    assert exact_memorisation(flags) == exact
    assert extraction_strength(flags) == strength


def test_an_answer_without_tokens_has_no_score() -> None:
    for score in (exact_memorisation, extraction_strength):
        with pytest.raises(ValueError, match="at least one token"):
            score([])
