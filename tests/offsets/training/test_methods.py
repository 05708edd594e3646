"""The methods' files: every knob, its value and its effect; and what a user's file may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lethe_offsets.errors import InvalidInput
from lethe_offsets.pair import Rule
from lethe_offsets.training import methods
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.knobs import Knobs, knobs
from lethe_offsets.training.methods import METHODS, OBJECTIVES, RETAIN_TERMS, default_settings, load_method
from lethe_offsets.training.objectives import CrossEntropy, GradientAscent

FOLDER = Path(methods.__file__).with_name("methods")
OWN: dict[str, dict[str, Any]] = {  # what a method sets otherwise than the code does, its retain term apart
    "grad_ascent": {"early_stop_retain": 0.8},
    "grad_diff": {"early_stop_retain": 0.8},
    "kl_min": {"early_stop_retain": 0.8},
    "npo": {"epochs": 10},
    "simnpo": {"epochs": 10},
    "retain_forget_pair": {"strength": 1.3},
    "uld": {"strength": 0.8, "plausibility": 0.01, "warmup": 0.1, "epochs": 10},
}


def knobs_of(method: str) -> Knobs:
    return knobs(OBJECTIVES[method], RETAIN_TERMS[default_settings(method)["retain"]])


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def test_there_is_a_file_for_each_method() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_file_holds_every_knob_with_its_effect(method: str) -> None:
    lines = [line for line in (FOLDER / f"{method}.yaml").read_text(encoding="utf-8").splitlines() if line]
    named = [line.partition(":")[0] for line in lines if not line.startswith("#")]
    assert named == ["method", *knobs_of(method)]
    assert f"method: {method}" in lines
    without = [line for line in lines if not line.startswith(("#", "method:")) and "  # " not in line]
    assert without == []


@pytest.mark.parametrize("method", METHODS)
def test_a_file_has_the_defaults_of_the_code(method: str) -> None:
    file = default_settings(method)
    objective, term = OBJECTIVES[method](), RETAIN_TERMS[file["retain"]]
    retain = term() if term else None
    code = {"objective": objective, "retain": retain, "rule": Rule()}
    places = {key: place for key, place in knobs_of(method).items() if key != "retain"}
    expected = {
        key: getattr(code[place[0]], place[1]) if len(place) == 2 else TrainingConfig.model_fields[key].default
        for key, place in places.items()
    }
    assert {key: file[key] for key in places} == expected | OWN.get(method, {})
    config = load_method(method)
    assert config.objective == objective
    assert config.retain == retain


def test_gradient_ascent_and_its_kin_stop_early() -> None:
    unbounded = [method for method in METHODS if not load_method(method).objective.bounded]
    assert unbounded == ["grad_ascent", "grad_diff", "kl_min"]
    assert all(load_method(method).early_stop_retain > 0 for method in unbounded)


def test_a_users_file_and_then_the_command_line_count(settings: Path) -> None:
    settings.write_text("method: grad_diff\nretain_weight: 2.5\nlearning_rate: 1e-4\nstrength: 1.5\nepochs: 3\n")
    config = load_method(None, settings, {"epochs": "7", "forget_weight": 0.5})
    assert config.objective == GradientAscent(weight=0.5)
    assert config.retain == CrossEntropy(weight=2.5)
    assert (config.learning_rate, config.epochs, config.rule) == (1e-4, 7, Rule(strength=1.5))
    assert load_method("grad_diff", settings, {"epochs": 7, "forget_weight": 0.5}) == config


def test_named_nowhere_it_is_npo(settings: Path) -> None:
    settings.write_text("beta: 0.2\n")
    assert load_method(None, settings) == load_method("npo", overrides={"beta": 0.2})


def test_another_retain_term_brings_its_own_knobs(settings: Path) -> None:
    settings.write_text("retain: answer_preservation\nretain_beta: 0.3\n")
    retain = load_method("simnpo", settings).retain
    assert retain is not None
    assert retain.model_dump() == {"name": "answer_preservation", "weight": 1.0, "beta": 0.3}
    settings.write_text("retain:\n")
    assert load_method("simnpo", settings).retain is None
    settings.write_text("retain: none\nretain_weight: 2\n")
    with pytest.raises(InvalidInput, match="no knob of simnpo: retain_weight"):
        load_method("simnpo", settings)


def test_all_that_is_wrong_is_said_at_once(settings: Path) -> None:
    settings.write_text("beta: high\nlearning_rat: 1e-4\nretain: kll\nplausibility: 3\nepochs: 0\nretain_weight: -1\n")
    with pytest.raises(InvalidInput) as refused:
        load_method("npo", settings)
    assert refused.value.field == "settings of npo"
    for said in (
        "beta: Input should be a valid number, unable to parse string as a number, got 'high'",
        "no knob of npo: learning_rat (did you mean learning_rate?)",
        "retain: got 'kll' (did you mean kl?)",
        "plausibility must be at least 0 and below 1, got 3",
        "epochs: Input should be greater than or equal to 1, got 0",
        "retain_weight: Input should be greater than or equal to 0, got -1",
    ):
        assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "a readable YAML file"),
        ("- npo", "lines of the form"),
        ("rule:\n  strength: 1.0", "one level; not so: rule"),
        ("method: dpo", "got 'dpo'; accepted: npo in"),
        ("gamma: 1.0", "no knob of npo: gamma; its knobs: beta, forget_weight, retain,"),
        ("retain: uniform", "retain must be answer_preservation or cross_entropy or kl or none for npo, got 'uniform'"),
        ("strength: 0", "strength must not be 0"),
    ],
)
def test_a_bad_file_is_refused(settings: Path, text: str, said: str) -> None:
    settings.write_text(text)
    with pytest.raises(InvalidInput) as refused:
        load_method("npo", settings)
    assert said in str(refused.value)


def test_a_missing_file_is_refused(settings: Path) -> None:
    with pytest.raises(InvalidInput, match=r"run\.yaml"):
        load_method("npo", settings)


@pytest.mark.parametrize(("given", "meant"), [("nppo", "npo"), ("SimNPO", "simnpo"), ("grad-diff", "grad_diff")])
def test_a_misspelt_method_is_told_the_nearest(given: str, meant: str) -> None:
    with pytest.raises(InvalidInput, match=f"did you mean {meant}[?].*accepted: grad_ascent"):
        load_method(given)
