"""The objectives, each with its arithmetic written out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lethe_offsets.training.objectives import KL, NPO, CrossEntropy, Rows, Undial

# Three rows over three tokens; the first two are one sequence, the third is another.
LARGE = [[0.0, 1.0, 2.0], [1.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
ENSEMBLE = [[2.0, 0.5, 0.0], [0.0, 1.0, -1.0], [1.0, 0.0, 0.0]]
TOKENS = [2, 0, 1]


def rows(ensemble: list[list[float]] = ENSEMBLE) -> Rows:
    return Rows(torch.tensor(ensemble), torch.tensor(LARGE), torch.tensor(TOKENS), torch.tensor([0, 0, 1]), 2)


def log_softmax(row: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in row))
    return [value - total for value in row]


def test_npo() -> None:
    beta = 0.5
    gains = [log_softmax(e)[t] - log_softmax(r)[t] for e, r, t in zip(ENSEMBLE, LARGE, TOKENS, strict=True)]
    sequences = [gains[0] + gains[1], gains[2]]
    log_sigmoids = [-math.log(1 + math.exp(beta * gain)) for gain in sequences]
    expected = -(2 / beta) * sum(log_sigmoids) / 2
    assert NPO(beta=beta)(rows()).item() == pytest.approx(expected, rel=1e-5)


def test_npo_starts_at_twice_log_two_over_beta() -> None:
    """With the ensemble equal to the reference every sequence's gain is 0, and log sigmoid(0) = -log 2."""
    assert NPO(beta=0.1)(rows(LARGE)).item() == pytest.approx(2 / 0.1 * math.log(2), rel=1e-5)


def test_kl() -> None:
    expected = 0.0
    for ensemble, large in zip(ENSEMBLE, LARGE, strict=True):
        ours, theirs = log_softmax(ensemble), log_softmax(large)
        expected += sum(math.exp(p) * (p - q) for p, q in zip(theirs, ours, strict=True)) / 3
    assert KL(weight=2.0)(rows()).item() == pytest.approx(2 * expected, rel=1e-5)
    assert KL()(rows(LARGE)).item() == pytest.approx(0.0, abs=1e-6)


def test_cross_entropy() -> None:
    expected = -sum(log_softmax(e)[t] for e, t in zip(ENSEMBLE, TOKENS, strict=True)) / 3
    assert CrossEntropy(weight=0.5)(rows()).item() == pytest.approx(0.5 * expected, rel=1e-5)


def test_undial() -> None:
    gamma, expected = 4.0, 0.0
    for ensemble, large, token in zip(ENSEMBLE, LARGE, TOKENS, strict=True):
        teacher = log_softmax([value - gamma * (i == token) for i, value in enumerate(large)])
        student = log_softmax(ensemble)
        expected += sum(math.exp(p) * (p - q) for p, q in zip(teacher, student, strict=True)) / 3
    assert Undial(gamma=gamma)(rows()).item() == pytest.approx(expected, rel=1e-5)


def test_a_vocabulary_without_some_tokens() -> None:
    """Rows that predict a removed token go, and what is left is renormalised over the other tokens."""
    left = rows().without(torch.tensor([1]))
    assert left.tokens.tolist() == [2, 0]
    two = log_softmax([ENSEMBLE[0][0], ENSEMBLE[0][2]])
    assert left.ensemble.log_softmax(-1)[0, [0, 2]].tolist() == pytest.approx(two, rel=1e-5)
    assert math.isfinite(KL()(left).item())


@pytest.mark.parametrize("objective", [NPO(), Undial(), KL(), CrossEntropy()])
def test_gradients_are_finite_where_a_token_is_impossible(objective: NPO | Undial | KL | CrossEntropy) -> None:
    ensemble = torch.tensor(ENSEMBLE)
    ensemble[0, 2] = -1e4
    ensemble.requires_grad_()
    objective(Rows(ensemble, torch.tensor(LARGE), torch.tensor(TOKENS), torch.tensor([0, 0, 1]), 2)).backward()  # type: ignore[no-untyped-call]
    assert ensemble.grad is not None
    assert torch.isfinite(ensemble.grad).all()
