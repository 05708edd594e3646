"""Rows of tokens in the key-value caches of one model, or of three with the offset between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from lethe_offsets.pair import RuleRows, apply_rules
from lethe_offsets.training.reference import ReferenceEnsemble


class Stepper:
    """mask [rows, length]: long, on the ensemble's device; 0 where a row has padding."""

    def __init__(self, ensemble: ReferenceEnsemble) -> None:
        lanes = (ensemble.large, ensemble.plus, ensemble.minus)
        self._models: list[Any] = [model for model in lanes if model is not None]
        self._ensemble = ensemble
        self._caches: list[Cache | None] = [None] * len(self._models)
        self.device = ensemble.large.device
        self.mask = torch.empty(0, 0, dtype=torch.long, device=self.device)

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts; logits of what follows them, float32, [prompts, vocab]."""
        length = max(map(len, prompts))
        ids = torch.tensor([[0] * (length - len(prompt)) + list(prompt) for prompt in prompts], device=self.device)
        used = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        self.mask = torch.empty(len(prompts), 0, dtype=torch.long, device=self.device)
        self._caches = [None] * len(self._models)
        return self.step(ids, used.to(self.device), last=True)[:, 0]

    def step(self, ids: Tensor, used: Tensor, last: bool = False) -> Tensor:
        """Append ids [rows, new], where ``used`` is 1; logits of what follows each, [rows, new, vocab].

        last: of what follows the last one alone, [rows, 1, vocab].
        """
        self.mask = torch.cat([self.mask, used], dim=1)
        positions = self.mask.cumsum(-1).sub(1).clamp_min(0)[:, -ids.shape[1] :]
        logits = []
        for place, model in enumerate(self._models):
            out = model(
                input_ids=ids.clamp_max(model.config.vocab_size - 1),  # as the engine: a padded head has more ids
                attention_mask=self.mask,
                position_ids=positions,
                past_key_values=self._caches[place],
                use_cache=True,
                logits_to_keep=1 if last else 0,
            )
            self._caches[place] = out.past_key_values
            logits.append(out.logits)
        return self._offset(logits)

    def take(self, rows: Tensor) -> None:
        """Go on with these rows, each as often as it is named."""
        self.mask = self.mask[rows]
        for cache in self._caches:
            if cache is not None:
                cache.batch_select_indices(rows)

    def _offset(self, logits: Sequence[Tensor]) -> Tensor:
        if len(logits) == 1:
            return logits[0].float()
        large, plus, minus = (each.flatten(0, 1) for each in logits)
        first = torch.zeros(len(large), dtype=torch.long, device=large.device)
        rules = RuleRows.stack([self._ensemble.rule], large.device).take(first, all_active=True)
        rows = apply_rules(large, plus, minus, rules, self._ensemble.special_ids.to(large.device))
        return rows.view(*logits[0].shape[:2], -1)
