"""Scores and their AUC, by hand."""

from __future__ import annotations

import math
import zlib

import pytest
import torch

from lethe_offsets.evaluation.axes import attacks

LOGPROBS = torch.tensor([-1.0, -4.0, -0.5, -2.5, -2.0])  # mean -2


def test_loss_is_the_mean() -> None:
    assert attacks.loss_score(LOGPROBS) == pytest.approx(-2.0)


def test_zlib_divides_by_the_compressed_bytes() -> None:
    size = len(zlib.compress(b"aaaaaaaaaaaaaaaaaaaaaaaa"))
    assert size < 24
    assert attacks.zlib_score(LOGPROBS, "a" * 24) == pytest.approx(-2.0 / size)


@pytest.mark.parametrize(("k", "score"), [(0.4, -3.25), (0.2, -4.0), (0.1, -4.0), (1.0, -2.0)])
def test_min_k_is_the_mean_of_the_least_probable(k: float, score: float) -> None:
    assert attacks.min_k_score(LOGPROBS, k) == pytest.approx(score)  # 0.4: (-4 - 2.5) / 2; never fewer than one


def test_min_k_plus_plus_measures_each_position_against_its_own_distribution() -> None:
    p = torch.tensor([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]])
    log_p = p.log()
    mean = (p * log_p).sum(-1)
    std = ((p * log_p**2).sum(-1) - mean**2).sqrt()
    # first position: log p is -ln 2 or -2 ln 2 with even odds, so a mean of -1.5 ln 2 and a deviation of 0.5 ln 2
    assert mean[0] == pytest.approx(-1.5 * math.log(2))
    assert std[0] == pytest.approx(0.5 * math.log(2))
    first = (-math.log(2) + 1.5 * math.log(2)) / (0.5 * math.log(2))
    second = (math.log(0.1) - float(mean[1])) / float(std[1])
    assert first == pytest.approx(1.0)
    logprobs = torch.stack([log_p[0, 0], log_p[1, 1]])
    assert attacks.min_k_plus_plus_score(logprobs, mean, std, 1.0) == pytest.approx((first + second) / 2)
    assert attacks.min_k_plus_plus_score(logprobs, mean, std, 0.5) == pytest.approx(second)


def test_a_certain_position_has_a_finite_score() -> None:
    zero = torch.zeros(1)
    assert attacks.min_k_plus_plus_score(zero, zero, zero) == 0.0


def test_reference_subtracts_what_any_model_would_know() -> None:
    assert attacks.reference_score(LOGPROBS, LOGPROBS - 1.5) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("members", "others", "auc"),
    [
        ([3.0, 4.0], [1.0, 2.0], 1.0),
        ([1.0, 2.0], [3.0, 4.0], 0.0),
        ([1.0, 3.0], [2.0], 0.5),
        ([1.0, 2.0, 5.0], [2.0, 3.0], 2.5 / 6),  # 1 above none, 2 ties one, 5 above both
        ([7.0], [7.0], 0.5),
    ],
)
def test_auc_counts_pairs(members: list[float], others: list[float], auc: float) -> None:
    assert attacks.auc(members, others) == pytest.approx(auc)


def test_auc_needs_both_groups() -> None:
    with pytest.raises(ValueError, match="at least one of each"):
        attacks.auc([], [1.0])
