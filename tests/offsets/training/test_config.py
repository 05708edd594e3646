"""What a training run can be told, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.objectives import NPO, CrossEntropy, Undial


def test_an_objective_is_chosen_by_name() -> None:
    config = TrainingConfig.model_validate(
        {"objective": {"name": "undial", "gamma": 5.0}, "retain": {"name": "cross_entropy"}}
    )
    assert config.objective == Undial(gamma=5.0)
    assert config.retain == CrossEntropy(weight=1.0)
    assert TrainingConfig().objective == NPO(beta=0.1)


def test_a_pair_may_be_applied_by_rank() -> None:
    config = TrainingConfig.model_validate(
        {
            "objective": {"name": "retain_forget_pair"},
            "retain": {"name": "cross_entropy"},
            "rule": {"mode": "rank", "rank_k": 20},
        }
    )
    assert config.lanes == ("plus", "minus")
    assert TrainingConfig().lanes == ("plus",)


def test_a_configuration_survives_json() -> None:
    config = TrainingConfig.model_validate({"rule": {"strength": 1.5, "clip": 4.0}, "retain_around": True})
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"learning_rat": 1e-3}, "learning_rat"),
        ({"objective": {"name": "npo", "gamma": 5.0}}, "gamma"),
        ({"objective": {"name": "ascent"}}, "'npo', 'simnpo'"),
        ({"retain": {"name": "uniform"}}, "retain must be answer_preservation or cross_entropy or kl or none for npo"),
        ({"objective": {"name": "uld"}}, "retain must be uniform for uld, got 'kl'"),
        ({"objective": {"name": "retain_forget_pair"}, "retain": None}, "cross_entropy for retain_forget_pair"),
        ({"early_stop_retain": 1.0}, "early_stop_retain"),
        ({"attribution_share": 0.0}, "attribution_share"),
        ({"rule": {"mode": "rank"}}, "mode must be 'linear' to be trained through, got 'rank'"),
        ({"rule": {"strength": 0.0}}, "strength must not be 0"),
        ({"rule": {"gate": 0.5}}, "gate must be 0 in training"),
        ({"rule": {"strenght": 1.0}}, "strenght"),
        ({"epochs": 0}, "epochs"),
        ({"cache_dtype": "int8"}, "cache_dtype"),
    ],
)
def test_what_can_not_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TrainingConfig.model_validate(given)
    assert said in str(refused.value)
