"""TOFU's numbers, each worked out by hand."""

from __future__ import annotations

import math

import pytest

import tiny
from lethe_offsets.evaluation.metrics import Result, World
from lethe_offsets.evaluation.sets import Item, Sets
from lethe_offsets.evaluation.tofu.forget_quality import ForgetQuality, compare
from lethe_offsets.evaluation.tofu.probability import Probability, share
from lethe_offsets.evaluation.tofu.rouge import Rouge, recalls
from lethe_offsets.evaluation.tofu.truth_ratio import TruthRatio, either_way, log_ratio, truth
from lethe_offsets.evaluation.tofu.utility import ModelUtility
from tables import Table, question


def world(sets: Sets, **table: object) -> World:
    model = Table(tiny.tokenizer(), **table)  # type: ignore[arg-type]
    return World(model, {"module": model}, sets)


def items(*answers: str) -> tuple[Item, ...]:
    return tuple(question(f"About {answer}?", answer) for answer in answers)


def test_probability_is_the_geometric_mean_of_the_tokens_and_a_share_where_there_are_options() -> None:
    sets = Sets(
        forget=items("one", "two"),
        retain=items("three"),
        world_facts=(question("Which?", "right", perturbed=["wrong", "worse"]),),
    )
    probabilities = {
        "one": [0.5, 0.125],  # sqrt(1/16) = 0.25
        "two": [0.75],
        "three": [0.1, 0.1, 0.1],
        "right": [0.3],
        "wrong": [0.2, 0.2],
        "worse": [0.1],
    }
    found = Probability().run(world(sets, probabilities=probabilities))
    assert found.summary == pytest.approx({"forget": 0.5, "retain": 0.1, "world_facts": 0.3 / (0.3 + 0.2 + 0.1)})
    assert [item["value"] for item in found.items] == pytest.approx([0.25, 0.75, 0.1, 0.5])


def test_answers_that_are_all_impossible_share_alike() -> None:
    assert share([0.0, 0.0, 0.0, 0.0]) == 0.25
    assert share([0.3, 0.1]) == pytest.approx(0.75)


def test_rouge_is_the_recall_of_stems_in_order() -> None:
    # Longest common subsequence of stems: "he", "write", "novel" of four words.
    assert recalls(["He writes long novels"], ["he wrote, writing a novel"]) == [0.75]
    # Saying more costs nothing; saying it in another order does.
    assert recalls(["a b c", "a b c"], ["x a y b z c", "c b a"]) == pytest.approx([1.0, 1 / 3])


def test_rouge_averages_over_each_set() -> None:
    sets = Sets(forget=items("Bergen in Norway", "Oslo"), retain=items("Paris"))
    answers = {"About Bergen": "In Bergen.", "About Oslo": "I don't know.", "About Paris": "It is Paris."}
    found = Rouge().run(world(sets, answers=answers))
    assert found.summary == pytest.approx({"forget": (1 / 3 + 0.0) / 2, "retain": 1.0})
    assert found.items[0]["said"] == "In Bergen."


def test_the_truth_ratio_by_set() -> None:
    sets = Sets(
        forget=(
            question("A?", "asked", "right", ["wrong", "worse"]),
            question("B?", "asked", "rare", ["often", "more"]),
        ),
        retain=(
            question("C?", "asked", "right", ["wrong", "worse"]),
            question("D?", "asked", "rare", ["often", "more"]),
        ),
        real_authors=(question("E?", "own", perturbed=["wrong"]),),
    )
    probabilities = {
        "right": [0.4, 0.4],
        "wrong": [0.2],
        "worse": [0.1, 0.1, 0.1],
        "rare": [0.1],
        "often": [0.2],
        "more": [0.3],
        "own": [0.8],
    }
    found = TruthRatio().run(world(sets, probabilities=probabilities))
    first, second = (0.2 + 0.1) / 2 / 0.4, (0.2 + 0.3) / 2 / 0.1  # 0.375 and 2.5
    assert found.summary == pytest.approx(
        {
            "forget": (first + 1 / second) / 2,
            "retain": ((1 - first) + 0.0) / 2,
            "real_authors": 1 - 0.2 / 0.8,
        }
    )
    assert math.exp(float(str(found.items[0]["log_ratio"]))) == pytest.approx(first)
    geometric = math.exp(float(str(found.items[0]["log_ratio_geometric"])))
    assert geometric == pytest.approx(math.sqrt(0.2 * 0.1) / 0.4)


def test_the_truth_ratio_of_what_is_impossible_is_finite() -> None:
    """A rule of rank mode puts tokens ten thousand nats down, where probabilities are 0."""
    assert log_ratio(-1e4, [-1.0, -1.0]) == pytest.approx(1e4 - 1.0)
    assert log_ratio(-1.0, [-1e4, -2e4]) == pytest.approx(-1e4 + math.log(0.5) + 1.0)
    assert (either_way(1e4), truth(1e4), truth(-1e4)) == (0.0, 0.0, 1.0)


def test_model_utility_is_the_harmonic_mean_of_nine() -> None:
    parts = {
        "probability": {"forget": 0.9, "retain": 0.5, "real_authors": 0.25, "world_facts": 0.5},
        "rouge": {"forget": 0.9, "retain": 0.5, "real_authors": 1.0, "world_facts": 0.5},
        "truth_ratio": {"forget": 0.9, "retain": 1.0, "real_authors": 0.5, "world_facts": 0.25},
    }
    model = Table(tiny.tokenizer())
    done = {name: Result(summary) for name, summary in parts.items()}
    found = ModelUtility().run(World(model, {"module": model}, Sets(items("x")), results=done))
    # Reciprocals: 2 + 2 + 1, 4 + 1 + 2, 2 + 2 + 4, which is 20; those of the retain set are 5.
    assert found.summary == pytest.approx({"model_utility": 9 / 20, "retain": 3 / 5})


def test_one_zero_makes_the_utility_zero() -> None:
    model, sets = Table(tiny.tokenizer()), {"retain": 1.0, "real_authors": 1.0, "world_facts": 0.0}
    done = {name: Result(sets) for name in ("probability", "rouge", "truth_ratio")}
    assert ModelUtility().run(World(model, {}, Sets(items("x")), results=done)).summary["model_utility"] == 0.0


def test_forget_quality_is_the_kolmogorov_smirnov_test() -> None:
    # All of one lie below all of the other: the distance is 1, and of the C(8, 4) = 70 orders two are as far apart.
    assert compare([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx({"forget_quality": 2 / 70, "statistic": 1.0})
    assert compare([1, 2, 3], [1, 2, 3]) == pytest.approx({"forget_quality": 1.0, "statistic": 0.0})
    assert compare([1, 2, 3, 4], [1.5, 2.5, 3.5, 4.5])["statistic"] == 0.25


def test_forget_quality_reads_the_forget_set_alone() -> None:
    ratios = [{"set": "forget", "log_ratio_geometric": x} for x in (1.0, 2.0)]
    others = [{"set": "retain", "log_ratio_geometric": x} for x in (9.0, 9.0)]
    model = Table(tiny.tokenizer())
    done = {"truth_ratio": Result({}, [*ratios, *others])}  # type: ignore[list-item]
    found = ForgetQuality().run(World(model, {}, Sets(items("x")), truth_ratios=[1.0, 2.0], results=done))
    assert found.summary == pytest.approx({"forget_quality": 1.0, "statistic": 0.0})
