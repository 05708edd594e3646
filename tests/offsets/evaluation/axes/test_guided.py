"""The guided distribution, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lethe_offsets.evaluation.axes.guided import guided_logits
from lethe_offsets.pair import divergence

BEFORE = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
AFTER = torch.tensor([0.6, 0.05, 0.3, 0.05]).log()


def test_what_unlearning_took_away_comes_first() -> None:
    guided = guided_logits(BEFORE + 3.0, AFTER - 1.0, 1.0, within=9.0)  # a constant in the logits changes nothing
    by_hand = [math.log(0.5**2 / 0.6), math.log(0.3**2 / 0.05), math.log(0.15**2 / 0.3), math.log(0.05)]
    assert guided.tolist() == pytest.approx(by_hand, abs=1e-6)
    assert guided.argmax() == 1
    assert BEFORE.argmax() == AFTER.argmax() == 0


def test_without_guidance_it_is_the_model_before() -> None:
    assert guided_logits(BEFORE, AFTER, 0.0, within=9.0).tolist() == pytest.approx(BEFORE.tolist(), abs=1e-6)


def test_implausible_tokens_are_out() -> None:
    guided = guided_logits(BEFORE, AFTER, 1.0, within=math.log(0.5 / 0.15) + 1e-3)
    assert guided.isinf().tolist() == [False, False, False, True]


def test_divergence_is_kl_in_nats() -> None:
    by_hand = 0.5 * math.log(5 / 6) + 0.3 * math.log(6) + 0.15 * math.log(0.5)
    assert float(divergence(BEFORE, AFTER)) == pytest.approx(by_hand, abs=1e-6)
    assert float(divergence(BEFORE, BEFORE + 1)) == pytest.approx(0.0, abs=1e-6)
