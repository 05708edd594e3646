"""Whole rows from the most probable tokens, the arithmetic written out."""

from __future__ import annotations

import math

import pytest
import torch

from lethe_offsets.recording.topk import TopK


def row(ids: list[int], probabilities: list[float], of_token: float) -> TopK:
    logprobs = torch.tensor([probabilities]).log()
    return TopK(torch.tensor([ids], dtype=torch.int32), logprobs, torch.tensor([of_token]).log())


def test_the_tail_is_shared_in_equal_parts() -> None:
    # 0.5 + 0.25 recorded, the token itself among them: 0.25 is left for ids 0, 2 and 4.
    rebuilt = row([3, 1], [0.5, 0.25], 0.25).logits(torch.tensor([1]), 5)
    assert rebuilt.exp()[0].tolist() == pytest.approx([0.25 / 3, 0.25, 0.25 / 3, 0.5, 0.25 / 3])


def test_a_token_outside_of_the_most_probable_keeps_its_own_probability() -> None:
    # 0.5 + 0.25 + 0.05 recorded: 0.2 is left for ids 0 and 2.
    rebuilt = row([3, 1], [0.5, 0.25], 0.05).logits(torch.tensor([4]), 5)
    assert rebuilt.exp()[0].tolist() == pytest.approx([0.1, 0.25, 0.1, 0.5, 0.05])


def test_the_whole_vocabulary_leaves_no_tail() -> None:
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    logprobs = logits.log_softmax(dim=-1)
    best, tokens = logprobs.topk(9), torch.arange(6)
    top = TopK(best.indices.int(), best.values, logprobs.gather(1, tokens[:, None])[:, 0])
    assert torch.equal(top.logits(tokens, 9), logprobs)


def test_rounding_above_one_leaves_a_finite_tail() -> None:
    top = TopK(torch.tensor([[0]], dtype=torch.int32), torch.tensor([[1e-6]]), torch.tensor([1e-6]))
    rebuilt = top.logits(torch.tensor([0]), 3)
    assert rebuilt[0, 1:].tolist() == pytest.approx([math.log(1e-7 / 2)] * 2)
