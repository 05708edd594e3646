"""The objectives that compare two answers, against their formulas written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lethe_offsets.training.objectives import DPO, AnswerPreservation, Rows


def rows(ensemble: list[float], large: list[float], record: list[int], num_records: int = 2) -> Rows:
    """One row for each number, the probability of the token that it predicts, which is always the first of two."""

    def table(probs: list[float]) -> Tensor:
        return torch.tensor([[prob, 1 - prob] for prob in probs]).log() + 3.0

    none = torch.full((len(record),), -1)
    tokens = torch.zeros(len(record), dtype=torch.long)
    return Rows(table(ensemble), table(large), tokens, none, 0, torch.tensor(record), num_records)


def log_sigmoid(value: float) -> float:
    return -math.log(1 + math.exp(-value))


def test_dpo_by_hand() -> None:
    """Record 1 of three is one to keep."""
    forget = rows([0.2, 0.5, 0.9], [0.4, 0.5, 0.6], [0, 0, 2], num_records=3)
    instead = rows([0.3, 0.1, 0.8], [0.1, 0.2, 0.4], [0, 2, 2], num_records=3)
    first = math.log(0.3 / 0.1) - (math.log(0.2 / 0.4) + math.log(0.5 / 0.5))
    second = (math.log(0.1 / 0.2) + math.log(0.8 / 0.4)) - math.log(0.9 / 0.6)
    expected = -(2 / 0.5) * (log_sigmoid(0.5 * first) + log_sigmoid(0.5 * second)) / 2
    assert DPO(beta=0.5)(forget, instead).item() == pytest.approx(expected, rel=1e-5)


def test_dpo_without_any_change_is_a_toss() -> None:
    same = rows([0.2, 0.5], [0.2, 0.5], [0, 1])
    assert DPO(beta=0.1)(same, same).item() == pytest.approx(20 * math.log(2), rel=1e-5)


def test_answer_preservation_by_hand() -> None:
    kept = rows([0.2, 0.5, 0.9], [0.5] * 3, [0, 0, 1])
    contrast = rows([0.3, 0.1, 0.8], [0.5] * 3, [0, 1, 1])
    first = math.log(0.3) - (math.log(0.2) + math.log(0.5))
    second = (math.log(0.1) + math.log(0.8)) - math.log(0.9)
    expected = -(1 / 0.5) * (log_sigmoid(-0.5 * first) + log_sigmoid(-0.5 * second)) / 2
    assert AnswerPreservation(beta=0.5)(kept, contrast).item() == pytest.approx(expected, rel=1e-5)


def test_answer_preservation_leaves_out_what_is_not_compared() -> None:
    """Records 1 and 3 have no refusal: the parts of answers that a marked forget record keeps."""
    kept = rows([0.7, 0.2, 0.7, 0.7], [0.5] * 4, [1, 2, 3, 3], num_records=4)
    contrast = rows([0.3], [0.5], [2], num_records=4)
    expected = -(1 / 0.1) * log_sigmoid(-0.1 * math.log(0.3 / 0.2))
    assert AnswerPreservation()(kept, contrast).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("objective", [DPO(), AnswerPreservation()], ids=lambda objective: objective.name)
def test_the_objectives_move_both_answers_apart(objective: DPO | AnswerPreservation) -> None:
    first, second = rows([0.2, 0.5], [0.4, 0.5], [0, 1]), rows([0.3, 0.1], [0.1, 0.2], [0, 1])
    answers = [answer.ensemble.requires_grad_() for answer in (first, second)]
    gradients = torch.autograd.grad(objective(first, second), answers)
    up = [bool((gradient[:, 0] < 0).all()) for gradient in gradients]
    assert up == ([False, True] if objective.name == "dpo" else [True, False])
