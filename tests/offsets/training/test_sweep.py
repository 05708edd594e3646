"""Several learning rates: the best is kept, and an interruption costs nothing that was done."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.data import Example
from lethe_offsets.training.scores import Score
from lethe_offsets.training.sweep import RateResult, best
from trainees import CONFIG, Interrupted, sweep, weights

RATES = (1e-4, 5e-3, 1e-3)
SHORT = CONFIG.model_copy(update={"epochs": 2})
STEPS = 4


def result(rate: float, score: float | None, kept_step: int = 10) -> RateResult:
    return RateResult(learning_rate=rate, score=score, kept_step=kept_step, scores=())


def test_each_rate_is_trained_by_itself_over_the_same_logits(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    said: list[tuple[str, int]] = []
    results = sweep(
        pair, forget, retain, tmp_path / "all", SHORT, RATES, lambda label, done, *_: said.append((label, done))
    )
    assert [found.learning_rate for found in results] == list(RATES)
    assert [label for label, done in said if done == STEPS] == [f"learning rate {rate:g}" for rate in RATES]
    assert len({label for label, _ in said}) == 1 + len(RATES), "the logits of the data are computed once"
    (alone,) = sweep(pair, forget, retain, tmp_path / "one", SHORT, RATES[1:2])
    assert alone == results[1]
    there = weights(tmp_path / "all", RATES[1])
    assert all(torch.equal(there[name], weight) for name, weight in weights(tmp_path / "one", RATES[1]).items())


def test_the_best_score_is_kept() -> None:
    assert best([result(1e-4, 0.2), result(1e-3, 0.9), result(1e-2, None, 0)]).learning_rate == 1e-3
    assert best([result(1e-4, 0.5), result(1e-3, 0.5)]).learning_rate == 1e-4, "of equals the first"
    assert best([result(1e-4, -0.1)]).learning_rate == 1e-4


def test_rates_that_all_fail_are_refused() -> None:
    with pytest.raises(InvalidInput, match="lower ones: with each of these the loss was not finite"):
        best([result(1.0, None, 0), result(2.0, None, 0)])
    with pytest.raises(InvalidInput, match="the retain score fell at once"):
        best([result(1.0, 0.0, 0), result(2.0, None, 0)])


def test_an_interrupted_sweep_goes_on_at_the_unfinished_rate(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    whole = sweep(pair, forget, retain, tmp_path / "whole", SHORT, RATES)

    def stop(label: str, done: int, total: int, note: str = "") -> None:
        if label == "learning rate 0.005" and done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        sweep(pair, forget, retain, tmp_path / "run", SHORT, RATES, stop)
    said: list[str] = []
    again = sweep(pair, forget, retain, tmp_path / "run", SHORT, RATES, lambda label, *_: said.append(label))
    assert again == whole
    assert "learning rate 0.0001" not in said
    assert said.count("learning rate 0.005") == STEPS
    for rate in RATES:
        there = weights(tmp_path / "run", rate)
        assert all(torch.equal(there[name], weight) for name, weight in weights(tmp_path / "whole", rate).items())


def test_a_finished_rate_of_other_settings_is_not_taken_for_this_one(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    sweep(pair, forget, retain, tmp_path, SHORT, RATES[:1])
    with pytest.raises(InvalidInput, match="same settings"):
        sweep(pair, forget, retain, tmp_path, SHORT.model_copy(update={"weight_decay": 0.1}), RATES[:1])


def test_a_result_survives_its_file() -> None:
    scores = (Score(step=0, forget=0.1, retain=1 / 3), Score(step=7, forget=1e-9, retain=2 / 3))
    found = RateResult(learning_rate=3e-4, score=0.1 + 0.2, kept_step=7, scores=scores)
    assert RateResult.model_validate_json(found.model_dump_json()) == found
