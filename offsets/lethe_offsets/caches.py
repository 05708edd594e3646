"""Rows of tokens in the key-value caches of several models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicLayer

ROOM = 64  # tokens for which a row's buffers have room when they are made


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer that goes on from ``layer`` and grows where it lies.

    transformers' own copies all keys and values for every new token.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(layer.keys, layer.values)
        self.keys, self.values = layer.keys, layer.values
        self._buffers = [self.keys, self.values]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append key_states and value_states [rows, heads, new, size]; all there are, [rows, heads, length, size]."""
        self.keys = self._append(0, self.keys, key_states)
        self.values = self._append(1, self.values, value_states)
        return self.keys, self.values

    def _append(self, place: int, held: Tensor, new: Tensor) -> Tensor:
        """A view of the buffer; a new one where ``held`` isn't the last one's beginning, or fills it."""
        length, buffer = held.shape[-2] + new.shape[-2], self._buffers[place]
        inside = held.data_ptr() == buffer.data_ptr() and held.shape[0] == buffer.shape[0]
        if not inside or length > buffer.shape[-2]:
            room = max(ROOM, length) if new.shape[-2] == 1 else 0  # many tokens at once are texts to be scored
            buffer = held.new_empty((*held.shape[:-2], length + room, held.shape[-1]))
            buffer[..., : held.shape[-2], :] = held
            self._buffers[place] = buffer
        buffer[..., held.shape[-2] : length, :] = new
        return buffer[..., :length, :]


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
            if self._caches[place] is None:
                layers = out.past_key_values.layers
                layers[:] = [RoomyLayer(layer) if _plain(layer) else layer for layer in layers]
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


def _plain(layer: Any) -> bool:
    """Whether it keeps all keys and values, and has some: a layer that shares another's never gets any."""
    return type(layer) is DynamicLayer and layer.is_initialized
