"""Scores, by arithmetic."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import tiny
from lethe_offsets.pair import Rule
from lethe_offsets.training.curve import draw_curve
from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import model_logits
from lethe_offsets.training.objectives import Rows
from lethe_offsets.training.reference import load_model
from lethe_offsets.training.scores import SAMPLE, Score, Scorer, answer_probabilities
from trainees import material


def test_an_answers_probability_is_the_geometric_mean_of_its_tokens() -> None:
    """Two answers over a vocabulary of two: tokens of 1/4, 1/2 and 1/2, and one of 1/8."""
    logits = torch.tensor([[math.log(1), math.log(3)], [0.0, 0.0], [0.0, 0.0], [math.log(7), math.log(1)]])
    rows = Rows(
        ensemble=logits,
        large=logits,
        tokens=torch.tensor([0, 0, 1, 1]),
        unit=torch.full((4,), -1),
        num_units=0,
        record=torch.tensor([0, 0, 0, 1]),
        num_records=2,
    )
    assert answer_probabilities(rows).tolist() == pytest.approx([(1 / 16) ** (1 / 3), 1 / 8], rel=1e-6)


def test_the_score_is_what_is_kept_less_what_is_still_known() -> None:
    start = Score(step=0, forget=0.8, retain=0.5)
    assert start.against(start) == 0.0
    assert Score(step=9, forget=0.2, retain=0.4).against(start) == pytest.approx(0.8 - 0.25)
    assert Score(step=9, forget=0.0, retain=0.9).against(start) == 1.0  # more than before counts as all
    assert Score(step=9, forget=1.0, retain=0.25).against(start) == pytest.approx(0.5 - 1.25)


def test_a_model_is_scored_on_what_is_forgotten_and_on_whole_answers_to_keep(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    given = material(pair, forget, retain, tmp_path / "fixed")
    score = Scorer.draw(given.ensemble(model_logits(given.small), Rule()), len(forget), seed=0).score(7)
    large = load_model(pair.large)
    expected = []
    for examples, mark in ((forget, "unit"), (retain, "answer")):
        means = []
        for example in examples:
            ids = torch.tensor([example.ids])
            table = large(ids).logits[0].log_softmax(dim=-1).detach()
            chosen = [
                at for at, value in enumerate(getattr(example, mark)) if (value >= 0 if mark == "unit" else value)
            ]
            means.append(math.exp(sum(float(table[at - 1, example.ids[at]]) for at in chosen) / len(chosen)))
        expected.append(sum(means) / len(means))
    assert score.step == 7
    assert [score.forget, score.retain] == pytest.approx(expected, rel=1e-4)


def test_the_sample_is_fixed_and_bounded(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    forget = forget * SAMPLE
    given = material(pair, forget, retain, tmp_path / "fixed")
    ensemble = given.ensemble(model_logits(given.small), Rule())
    first, again, other = (Scorer.draw(ensemble, len(forget), seed) for seed in (1, 1, 2))
    assert first.forget == again.forget
    assert first.forget != other.forget
    assert len(first.forget) == SAMPLE
    assert list(first.retain) == [len(forget) + index for index in range(len(retain))]


def test_the_picture_is_a_png_and_the_same_for_the_same_scores() -> None:
    scores = [Score(step=step, forget=1.0 / (step + 1), retain=0.9) for step in (0, 5, 10)]
    picture = draw_curve(scores, kept_step=10)
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert b"tEXt" not in picture
    assert draw_curve(scores, kept_step=10) == picture
    assert draw_curve(scores, kept_step=5) != picture
