"""Trials: what is measured of a training, and which is chosen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lethe_offsets.comparison.builds import Builds
from lethe_offsets.comparison.comparison import Comparison
from lethe_offsets.comparison.contenders import RANKS, STRENGTHS, choose_contenders
from lethe_offsets.comparison.probability import probabilities
from lethe_offsets.comparison.trials import POINTS, Point, Trial, choose
from lethe_offsets.errors import InvalidInput
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.training.data import read_examples
from lethe_offsets.training.logits import model_logits
from lethe_offsets.training.progress import silent
from lethe_offsets.training.reference import ReferenceEnsemble, load_lanes, load_model, load_tokenizer, special_ids


def point(retain: float, distance: float, rate: float = 1e-3) -> Point:
    return Point(rate=rate, rule=Rule(), forget=0.1, retain=retain, distance=distance)


def test_the_nearest_to_retrain_that_keeps_95_percent_is_chosen() -> None:
    points = [point(0.75, 0.05), point(0.76, 0.2), point(0.79, 0.3)]
    assert choose(points, before=0.8) is points[1]  # 0.75 < 0.95 * 0.8 = 0.76


def test_where_none_keeps_enough_the_one_that_keeps_most_is_chosen() -> None:
    points = [point(0.3, 0.05), point(0.5, 0.2), point(0.4, 0.01)]
    assert choose(points, before=0.8) is points[1]
    assert choose([], before=0.8) is None


def test_a_pair_is_trained_once_for_both_modes_and_measured_under_every_rule(built: Builds) -> None:
    comparison = Comparison(built, choose_contenders("pair-linear,pair-rank"))
    (trial,) = comparison.trials()
    assert [rule.strength for rule in trial.rules if rule.mode == "linear"] == list(STRENGTHS)
    assert [rule.rank_k for rule in trial.rules if rule.mode == "rank"] == list(RANKS)
    comparison.attempt(trial, silent)
    file = built.place / "trials" / f"{trial.name}-points" / "points.json"
    points = POINTS.validate_json(file.read_bytes())
    assert [found.rule for found in points] == list(trial.rules)
    linear, rank = (comparison.chosen(one, [trial], 0.0) for one in comparison.contenders[2:])
    assert linear is not None
    assert linear.rule in trial.rules[: len(STRENGTHS)]
    assert rank is not None
    assert rank.rule in trial.rules[len(STRENGTHS) :]
    assert linear.trained == rank.trained


def test_points_are_what_the_module_does_to_the_large_model(built: Builds) -> None:
    """A point's forget probability, from the three models' logits summed here."""
    comparison = Comparison(built, choose_contenders("offset-npo"))
    (trial,) = comparison.trials()
    comparison.attempt(trial, silent)
    (found,) = json.loads((built.place / "trials" / f"{trial.name}-points" / "points.json").read_bytes())
    words, module = load_tokenizer(built.path("large")), Module.open(built.place / "trials" / trial.name)
    models = [load_model(built.path("large")), *load_lanes(built.path("small"), module)]
    expected = []
    for example in read_examples(built.place / "sets" / "forget.jsonl", words, "retain", 512):
        ids = torch.tensor([example.ids])
        with torch.no_grad():
            large, plus, minus = (model(input_ids=ids).logits[0] for model in models)
        logprobs = (large + trial.config.rule.strength * (plus - minus)).log_softmax(-1)
        places = [place for place, predicted in enumerate(example.answer) if predicted]
        expected.append(float(logprobs[[p - 1 for p in places], ids[0, places]].mean().exp()))
    assert found["forget"] == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_probabilities_under_a_rule_are_the_ensembles(built: Builds) -> None:
    words, large = load_tokenizer(built.path("large")), load_model(built.path("large"))
    plus, minus = load_model(built.path("clean")), load_model(built.path("small"))
    examples = read_examples(built.place / "sets" / "retain.jsonl", words, "retain", 512)
    rules = (Rule(strength=2.0, pin_special=True), Rule(mode="rank", rank_k=3))
    pinned = special_ids(large, words)
    found = probabilities(examples, model_logits(large), (model_logits(plus), model_logits(minus)), rules, pinned)
    for rule, row in zip(rules, found, strict=True):
        ensemble = ReferenceEnsemble(large, plus, minus, rule, pinned)
        plain = lambda ids, mask, asked, own=ensemble: own.logits(ids, mask)[asked]  # noqa: E731
        alone = torch.cat([probabilities([example], plain)[0] for example in examples])
        torch.testing.assert_close(row, alone, atol=1e-6, rtol=1e-5)


def test_a_training_that_breaks_down_has_no_points_and_no_row(built: Builds) -> None:
    comparison = Comparison(built, choose_contenders("direct-npo"))
    contender = comparison.contenders[2]
    trial = Trial.plan([contender], {"epochs": 2, "batch_size": 2, "early_stop_retain": 0.9}, 0.5, 0)
    comparison.attempt(trial, silent)
    assert "learning_rate" in (built.place / "trials" / trial.name / "failed.txt").read_text(encoding="utf-8")
    assert comparison.chosen(contender, [trial], 0.5) is None


def test_an_unknown_method_or_split_or_folder_is_refused(built: Builds, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"methods: got 'direct-gone'; accepted: .*direct-npo"):
        choose_contenders("pair,direct-gone")
    with pytest.raises(InvalidInput, match=r"split: got 'forget20'; accepted: forget01, forget05, forget10"):
        Builds(built.tofu, tmp_path, built.size, "forget20")
    with pytest.raises(InvalidInput, match=r"tofu: .*which holds full.json"):
        Builds(tmp_path, tmp_path, built.size, "forget10")
