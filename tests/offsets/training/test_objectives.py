"""Each objective of one set of rows against its formula, written out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lethe_offsets.training.objectives import (
    IDK,
    KL,
    NPO,
    ULD,
    CrossEntropy,
    GradientAscent,
    MaxEntropy,
    Objective,
    RetainForgetPair,
    Rows,
    SimNPO,
    Undial,
    Uniform,
)

FORGET = (GradientAscent(), IDK(), NPO(), SimNPO(), MaxEntropy(), Undial(), RetainForgetPair(), ULD())
ALL: tuple[Objective, ...] = (*FORGET, KL(), CrossEntropy(), Uniform())


def logits(*rows: list[float]) -> Tensor:
    """Rows of probabilities as logits, each shifted by another constant: no objective may see the shift."""
    return torch.tensor(rows).log() + torch.arange(1.0, 1.0 + len(rows))[:, None]


@pytest.fixture
def rows() -> Rows:
    """Three tokens: the first two are one sequence, the third is another."""
    return Rows(
        ensemble=logits([0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6]),
        large=logits([0.4, 0.4, 0.2], [0.5, 0.25, 0.25], [0.1, 0.3, 0.6]),
        tokens=torch.tensor([0, 1, 2]),
        unit=torch.tensor([0, 0, 1]),
        num_units=2,
        record=torch.tensor([0, 0, 1]),
        num_records=2,
    )


def test_gradient_ascent_by_hand(rows: Rows) -> None:
    expected = (math.log(0.1) + math.log(0.25) + math.log(0.6)) / 3
    assert GradientAscent()(rows).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("objective", [CrossEntropy(weight=0.5), IDK(weight=0.5), ULD(weight=0.5)])
def test_cross_entropy_by_hand(rows: Rows, objective: Objective) -> None:
    expected = -0.5 * (math.log(0.1) + math.log(0.25) + math.log(0.6)) / 3
    assert objective(rows).item() == pytest.approx(expected, rel=1e-5)


def test_npo_by_hand(rows: Rows) -> None:
    gains = (math.log(0.1 / 0.4) + math.log(0.25 / 0.25), math.log(0.6 / 0.6))
    sigmoids = [1 / (1 + math.exp(0.5 * gain)) for gain in gains]
    expected = -(2 / 0.5) * (math.log(sigmoids[0]) + math.log(sigmoids[1])) / 2
    assert NPO(beta=0.5)(rows).item() == pytest.approx(expected, rel=1e-5)


def test_npo_near_beta_zero_is_gradient_ascent(rows: Rows) -> None:
    ensemble = rows.ensemble.clone().requires_grad_()
    (npo,) = torch.autograd.grad(NPO(beta=1e-4)(replace(rows, ensemble=ensemble)), ensemble)
    log_probs = ensemble.log_softmax(-1)[torch.arange(3), rows.tokens]
    (ascent,) = torch.autograd.grad((log_probs[0] + log_probs[1] + log_probs[2]) / 2, ensemble)
    torch.testing.assert_close(npo, ascent, rtol=1e-3, atol=1e-4)


def test_simnpo_by_hand(rows: Rows) -> None:
    means = ((math.log(0.1) + math.log(0.25)) / 2, math.log(0.6))
    sigmoids = [1 / (1 + math.exp(2.5 * mean + 0.3)) for mean in means]
    expected = -0.1375 * (2 / 2.5) * (math.log(sigmoids[0]) + math.log(sigmoids[1])) / 2
    assert SimNPO(gamma=0.3)(rows).item() == pytest.approx(expected, rel=1e-5)


def test_maximum_entropy_by_hand(rows: Rows) -> None:
    students = ([0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6])
    expected = sum(p * math.log(p / (1 / 3)) for student in students for p in student) / 3
    assert MaxEntropy(weight=1.0)(rows).item() == pytest.approx(expected, rel=1e-5)
    flat = replace(rows, ensemble=logits(*[[1 / 3] * 3] * 3))
    assert MaxEntropy()(flat).item() == pytest.approx(0.0, abs=1e-6)


def test_undial_by_hand(rows: Rows) -> None:
    gamma = math.log(4.0)  # the forgotten token's odds fall to a quarter
    teachers = ([0.1, 0.4, 0.2], [0.5, 0.0625, 0.25], [0.1, 0.3, 0.15])
    students = ([0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6])
    total = 0.0
    for teacher, student in zip(teachers, students, strict=True):
        shares = [value / sum(teacher) for value in teacher]
        total += sum(p * math.log(p / q) for p, q in zip(shares, student, strict=True))
    assert Undial(gamma=gamma)(rows).item() == pytest.approx(total / 3, rel=1e-5)


def test_kl_by_hand(rows: Rows) -> None:
    first = 0.4 * math.log(0.4 / 0.1) + 0.4 * math.log(0.4 / 0.6) + 0.2 * math.log(0.2 / 0.3)
    third = 0.1 * math.log(0.1 / 0.2) + 0.3 * math.log(0.3 / 0.2)
    assert KL(weight=2.0)(rows).item() == pytest.approx(2.0 * (first + third) / 3, rel=1e-5)


def test_uniform_by_hand(rows: Rows) -> None:
    students = ([0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6])
    expected = -sum(math.log(p) / 3 for student in students for p in student) / 3
    assert Uniform(weight=1.0)(rows).item() == pytest.approx(expected, rel=1e-5)


def test_a_smaller_vocabulary_renormalises_and_drops_the_rows_of_its_missing_tokens(rows: Rows) -> None:
    kept = rows.without(torch.tensor([0]))
    assert kept.tokens.tolist() == [1, 2]
    assert kept.record.tolist() == [0, 1]
    third = (0.3 / 0.9) * math.log((0.3 / 0.9) / 0.25) + (0.6 / 0.9) * math.log((0.6 / 0.9) / 0.75)
    assert KL()(kept).item() == pytest.approx(third / 2, rel=1e-5)


@pytest.mark.parametrize("objective", ALL, ids=lambda objective: objective.name)
def test_the_order_of_rows_makes_no_difference(rows: Rows, objective: Objective) -> None:
    order = torch.tensor([2, 0, 1])
    turned = replace(rows, **{name: getattr(rows, name)[order] for name in ("ensemble", "large", "tokens", "unit")})
    assert objective(turned).item() == pytest.approx(objective(rows).item(), rel=1e-5)


@pytest.mark.parametrize("objective", ALL, ids=lambda objective: objective.name)
def test_the_objectives_are_differentiable(rows: Rows, objective: Objective) -> None:
    ensemble = rows.ensemble.clone().requires_grad_()
    objective(replace(rows, ensemble=ensemble)).backward()
    assert ensemble.grad is not None
    assert torch.isfinite(ensemble.grad).all()
    assert ensemble.grad.abs().sum() > 0


def test_only_gradient_ascent_has_no_bound(rows: Rows) -> None:
    """With the right tokens made impossible, step by step: every other objective comes to rest, or is least before."""
    assert [objective.name for objective in ALL if not objective.bounded] == ["grad_ascent"]
    near, far = (
        replace(rows, ensemble=rows.ensemble.scatter_add(1, rows.tokens[:, None], torch.full((3, 1), -push)))
        for push in (100.0, 200.0)
    )
    for objective in ALL:
        fell = objective(near).item() - objective(far).item()
        assert (fell > 50.0) == (not objective.bounded), objective.name
