"""Rows of tokens in the key-value caches of several models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache


class Caches:
    """Models that read the same rows, on one device, each with a cache of its own.

    mask [rows, length]: long; 0 where a row has padding; None before the first step.
    """

    def __init__(self, models: Sequence[Any], device: torch.device) -> None:
        self.device = device
        self.mask: Tensor | None = None
        self._models = models
        self._caches: list[Cache | None] = [None] * len(models)

    def clear(self) -> None:
        self.mask = None
        self._caches = [None] * len(self._models)

    def step(self, ids: Tensor, used: Tensor, last: bool = False) -> list[Tensor]:
        """Append ids [rows, new], where ``used`` is 1; each model's logits of what follows them, [rows, new, vocab].

        last: of what follows the last one alone, [rows, 1, vocab].
        """
        ids, used = ids.to(self.device), used.to(self.device)
        self.mask = used if self.mask is None else torch.cat([self.mask, used], dim=1)
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
        return logits

    def take(self, rows: Tensor) -> None:
        """Go on with these rows, each as often as it is named."""
        rows = rows.to(self.device)
        self.mask = None if self.mask is None else self.mask[rows]
        for cache in self._caches:
            if cache is not None:
                cache.batch_select_indices(rows)
