"""Rows of tokens in the key-value caches of one model, or of three with the offset between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lethe_offsets.caches import Caches
from lethe_offsets.pair import RuleRows, apply_rules
from lethe_offsets.training.reference import ReferenceEnsemble


class Stepper:
    """An ensemble that reads rows step by step, on the large model's device."""

    def __init__(self, ensemble: ReferenceEnsemble) -> None:
        lanes = (ensemble.large, ensemble.plus, ensemble.minus)
        self._ensemble = ensemble
        self._caches = Caches([model for model in lanes if model is not None], ensemble.large.device)
        self.device = ensemble.large.device

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts; logits of what follows them, float32, [prompts, vocab]."""
        length = max(map(len, prompts))
        ids = torch.tensor([[0] * (length - len(prompt)) + list(prompt) for prompt in prompts])
        used = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        self._caches.clear()
        return self.step(ids, used, last=True)[:, 0]

    def step(self, ids: Tensor, used: Tensor, last: bool = False) -> Tensor:
        """Append ids [rows, new], where ``used`` is 1; logits of what follows each, float32, [rows, new, vocab].

        last: of what follows the last one alone, [rows, 1, vocab].
        """
        large, *lanes = self._caches.step(ids, used, last)
        return offset_logits(self._ensemble, large, *lanes) if lanes else large.float()

    def take(self, rows: Tensor) -> None:
        """Go on with these rows, each as often as it is named."""
        self._caches.take(rows)


def offset_logits(ensemble: ReferenceEnsemble, large: Tensor, plus: Tensor, minus: Tensor) -> Tensor:
    """The offset distribution's logits, float32, in the shape [..., vocab] of ``large``, by the ensemble's rule."""
    device = large.device
    rows, more, less = (each.to(device).flatten(0, -2) for each in (large, plus, minus))
    first = torch.zeros(len(rows), dtype=torch.long, device=device)
    rules = RuleRows.stack([ensemble.rule], device).take(first, all_active=True)
    return apply_rules(rows, more, less, rules, ensemble.special_ids.to(device)).view(large.shape)
