"""Whole rows from the most probable tokens, the arithmetic written out."""

from __future__ import annotations

import math

import pytest
import torch

from lethe_offsets.recording.topk import TopK


def row(ids: list[int], probabilities: list[float], of_token: float) -> TopK:
    logprobs = torch.tensor([probabilities]).log()
    return TopK(torch.tensor([ids], dtype=torch.int32), logprobs, torch.tensor([of_token]).log())


def test_the_tail_follows_the_small_model() -> None:
    # 0.5 + 0.25 recorded, the token itself among them: 0.25 is left for ids 0, 2 and 4, which the small model
    # holds at 1 : 2 : 1, whatever it thinks of ids 1 and 3.
    top = row([3, 1], [0.5, 0.25], 0.25)
    small = torch.tensor([[1.0, 7.0, 2.0, 9.0, 1.0]]).log()
    expected = [[0.0625, 0.25, 0.125, 0.5, 0.0625]]
    assert top.logits(torch.tensor([1]), small, 5).exp().tolist() == [pytest.approx(expected[0])]


def test_a_token_outside_of_the_most_probable_keeps_its_own_probability() -> None:
    # 0.5 + 0.25 + 0.05 recorded: 0.2 is left for ids 0 and 2, at 1 : 3.
    top = row([3, 1], [0.5, 0.25], 0.05)
    small = torch.tensor([[1.0, 1.0, 3.0, 1.0, 1.0]]).log()
    assert top.logits(torch.tensor([4]), small, 5).exp()[0].tolist() == pytest.approx([0.05, 0.25, 0.15, 0.5, 0.05])


def test_the_whole_vocabulary_leaves_no_tail() -> None:
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    logprobs = logits.log_softmax(dim=-1)
    best, tokens = logprobs.topk(9), torch.arange(6)
    top = TopK(best.indices.int(), best.values, logprobs.gather(1, tokens[:, None])[:, 0])
    assert torch.equal(top.logits(tokens, torch.zeros(6, 9), 9), logprobs)


def test_rounding_above_one_leaves_a_finite_tail() -> None:
    top = TopK(torch.tensor([[0]], dtype=torch.int32), torch.tensor([[1e-6]]), torch.tensor([1e-6]))
    rebuilt = top.logits(torch.tensor([0]), torch.zeros(1, 3), 3)
    assert rebuilt[0, 1:].tolist() == pytest.approx([math.log(1e-7 / 2)] * 2)


def test_ids_beyond_the_small_models_vocabulary_get_nothing_unless_recorded() -> None:
    top = row([4, 0], [0.5, 0.3], 0.3)
    rebuilt = top.logits(torch.tensor([0]), torch.zeros(1, 3), 6)
    assert rebuilt.exp()[0].tolist() == pytest.approx([0.3, 0.1, 0.1, 0.0, 0.5, 0.0])
    assert rebuilt.isfinite().all()
