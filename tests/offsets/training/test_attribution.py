"""Attribution masks: the scores by arithmetic, and that nothing else is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from lethe_offsets.pair import Rule
from lethe_offsets.training.attribution import attribute, choose_rows, top_rows
from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import model_logits
from trainees import CONFIG, material, sweep, weights


def test_a_rows_score_sums_the_papers_scores_of_its_weights() -> None:
    """rms of the weights is sqrt(30 / 4) and of the retain gradients half of it, so gamma is 1 / 2."""
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    retain = torch.tensor([[1.0, -0.5], [1.5, -2.0]])
    forget = torch.tensor([[1.0, 2.0], [-1.0, 0.5]])
    (scores,) = attribute([weight], [forget], [retain])
    # |1 - 2| * 1 + |2 + 1| * 2, and |3 - 3| * 1 + |4 + 4| * 0.5
    assert scores.tolist() == pytest.approx([7.0, 4.0])


def test_the_share_is_of_all_layers_together() -> None:
    masks = top_rows([torch.tensor([5.0, 1.0]), torch.tensor([2.0, 9.0, 0.5, 8.0])], share=0.5)
    assert [mask.tolist() for mask in masks] == [[True, False], [False, True, False, True]]
    assert sum(int(mask.sum()) for mask in top_rows([torch.ones(10)], share=0.01)) == 1


def test_only_the_chosen_rows_are_trained(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    given = material(pair, forget, retain, tmp_path / "fixed")
    plain = given.ensemble(model_logits(given.small), Rule())
    before = [weight.requires_grad for weight in given.small.parameters()]
    rows = choose_rows(0.1, given.small, plain, [0, 1], [2, 3, 4])
    assert [weight.requires_grad for weight in given.small.parameters()] == before
    total, chosen = (sum(len(mask) for mask in rows.values()), sum(int(mask.sum()) for mask in rows.values()))
    assert chosen == round(0.1 * total)
    (result,) = sweep(pair, forget, retain, tmp_path / "run", CONFIG.model_copy(update={"attribution_share": 0.1}))
    assert result.scores[-1].forget < result.scores[0].forget
    trained = weights(tmp_path / "run")
    for layer, mask in rows.items():
        moved = trained[f"base_model.model.{layer}.lora_B.weight"].abs().sum(dim=1) > 0
        assert torch.equal(moved, mask), layer
