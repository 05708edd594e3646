"""Weights on a grid, by hand."""

from __future__ import annotations

import pytest
import torch

from lethe_offsets.evaluation.axes.rounding import round_linears, round_rows


def test_two_bits_leave_three_values_of_each_row() -> None:
    weight = torch.tensor([[1.0, 0.4, -0.6, -1.0], [8.0, 3.9, 4.1, 0.0], [0.0, 0.0, 0.0, 0.0]])
    rounded = torch.tensor([[1.0, 0.0, -1.0, -1.0], [8.0, 0.0, 8.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(round_rows(weight, 2), rounded)


@pytest.mark.parametrize("bits", [4, 8])
def test_no_weight_moves_by_more_than_half_a_step(bits: int) -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    half = weight.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1) / 2
    moved = (round_rows(weight, bits) - weight).abs()
    assert (moved <= half * 1.001).all()
    assert moved.max() > 0.5 * half.max()
    assert len(round_rows(weight, bits)[0].unique()) <= 2**bits - 1


def test_linear_layers_are_rounded_and_the_rest_is_kept() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Embedding(4, 8), torch.nn.Linear(8, 8), torch.nn.Linear(8, 4))
    before = [weight.clone() for weight in (model[0].weight, model[1].weight, model[2].weight, model[1].bias)]
    assert round_linears(model, 4, keep=model[2]) == 1
    after = (model[0].weight, model[1].weight, model[2].weight, model[1].bias)
    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [True, False, True, True]


def test_bits_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="accepted: 2 to 8"):
        round_rows(torch.ones(1, 1), 1)
