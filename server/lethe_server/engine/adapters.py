"""Adapter slots: which row carries which module, and the adapters' products for both lanes.

Stands in for vLLM's punica wrapper: vLLM moves adapters in and out of slots and says which token uses which one. The
products are one operator of ours on the CPU (``adapters.cpp``); elsewhere all slots are computed at once and masked by
each row's slot and lane. Nothing in the graph depends on the data, so both compile and are captured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lethe_offsets.pair import Rule, RuleRows
from lethe_server.engine.tallies import Tallies


@dataclass(frozen=True)
class SlotRule:
    """What a slot's adapter means. plus_rank: its first ``plus_rank`` ranks act on the plus lane, the rest on minus."""

    rule: Rule
    plus_rank: int


class AdapterSlots:
    """The slots of one worker.

    slots: how many adapters one step can mix. rank: ranks per slot. max_tokens: rows of a step, one lane. fused: the
    products are the operator of ``kernels.py``, which has been loaded. capacity: adapters in the engine.
    """

    def __init__(
        self, slots: int, rank: int, max_tokens: int, device: torch.device, fused: bool, capacity: int = 0
    ) -> None:
        self.slots = slots
        self.rank = rank
        self.fused = fused
        # Persistent: a captured graph reads these addresses, so they are only ever written in place.
        self.token_slots = torch.full((max_tokens,), -1, dtype=torch.long, device=device)
        self.plus_ranks = torch.full((slots,), rank, dtype=torch.long, device=device)
        self.rank_index = torch.arange(rank, device=device)
        self.slot_index = torch.arange(slots, device=device)
        self.rules = RuleRows.stack([None] * slots, device)
        self.weights = torch.empty(0)  # of all layers, see LayerAdapters
        self.tallies = Tallies(slots, max(capacity, slots), device)
        self.evictions = 0
        self.any_module = False
        self.all_modules = False
        self._layout: list[int | None] = [None] * slots
        self._known: dict[int, SlotRule] = {}

    def register(self, adapter_id: int, entry: SlotRule) -> None:
        self._known[adapter_id] = entry
        self._rebuild()

    def forget(self, adapter_id: int) -> None:
        self._known.pop(adapter_id, None)
        self.tallies.close(adapter_id)
        self._rebuild()

    def count(self, adapter_id: int) -> None:
        """Count the adapter's rows from now on."""
        self.tallies.open(adapter_id)
        self._rebuild()

    @property
    def used(self) -> int:
        """Slots with an adapter that is in the engine."""
        return sum(adapter in self._known for adapter in self._layout)

    def update_metadata(
        self, mapping: Any, lora_index_to_id: list[int | None], max_loras: int, vocab_size: int, **kwargs: Any
    ) -> None:
        """Called by vLLM's adapter manager when a step's rows or the slots change."""
        slot_of = {adapter: slot for slot, adapter in enumerate(lora_index_to_id) if adapter is not None}
        slot_of[0] = -1
        rows = [slot_of[adapter] for adapter in mapping.index_mapping]
        self.any_module = max(rows, default=-1) >= 0
        self.all_modules = min(rows, default=-1) >= 0
        self.token_slots[: len(rows)].copy_(torch.tensor(rows, dtype=torch.long), non_blocking=True)
        if lora_index_to_id != self._layout:
            changed = [old for old, new in zip(self._layout, lora_index_to_id, strict=True) if new not in (None, old)]
            self.evictions += sum(old in self._known for old in changed)
            self._layout = list(lora_index_to_id)
            self._rebuild()

    def row_mask(self, tokens: int) -> Tensor:
        """[2 * tokens, slots, rank] bool: the ranks of the row's slot that belong to its lane."""
        mine = self.token_slots[:tokens, None] == self.slot_index
        plus = self.rank_index < self.plus_ranks[:, None]
        lanes = torch.stack([~plus, plus])
        return (mine[:, None, :, None] & lanes).flatten(0, 1)

    def _rebuild(self) -> None:
        entries = [self._known.get(adapter) if adapter is not None else None for adapter in self._layout]
        self.rules = RuleRows.stack([entry.rule if entry else None for entry in entries], self.token_slots.device)
        ranks = [entry.plus_rank if entry else self.rank for entry in entries]
        self.plus_ranks.copy_(torch.tensor(ranks, dtype=torch.long))
        self.tallies.place(self._layout)


class LayerAdapters:
    """One linear layer's adapters in all slots; vLLM goes on writing them through the views that ``views`` gives.

    a [slots, slices, rank, in] and b [slots, rank, out] lie one behind the other in ``weights`` from ``start`` on: the
    slices are those of a fused projection, their outputs (``widths``) side by side. One product then serves every slot
    and slice without a copy, and the compiled model has one input for all layers.
    """

    def __init__(self, slots: AdapterSlots, start: int, size_in: int, widths: Sequence[int]) -> None:
        self.slots = slots
        self.start = start
        self.size_in = size_in
        self.widths = list(widths)

    @property
    def numel(self) -> int:
        return self.slots.slots * self.slots.rank * (len(self.widths) * self.size_in + sum(self.widths))

    def matrices(self) -> tuple[Tensor, Tensor]:
        """a and b, views of ``weights``."""
        slots, rank, slices = self.slots.slots, self.slots.rank, len(self.widths)
        size_a = slots * slices * rank * self.size_in
        own = self.slots.weights[self.start : self.start + self.numel]
        return own[:size_a].view(slots, slices, rank, self.size_in), own[size_a:].view(slots, rank, -1)

    def views(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """A [slots, 1, rank, in] and B [slots, 1, width, rank] of each slice, as vLLM stacks them."""
        a, b = self.matrices()
        return torch.split(a, 1, dim=1), torch.split(b[:, None].transpose(-1, -2), self.widths, dim=-2)

    def add_lora_linear(self, y: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> None:
        """``y[rows of a slot and lane] += x @ A.T @ B`` in place, called by vLLM's wrapped layer.

        y [2n, out], x [2n, in]: a token's minus row, then its plus row.
        """
        slots = self.slots
        if slots.fused:
            torch.ops.lethe.add_adapters(
                y, x, slots.weights, self.start, slots.rank, self.widths, slots.token_slots, slots.plus_ranks
            )
            return
        a, b = self.matrices()
        mask = slots.row_mask(x.shape[0] // 2).to(x.dtype)
        hidden = (x @ a.flatten(0, 2).T).view(-1, slots.slots, len(self.widths), slots.rank) * mask[:, :, None]
        start = 0
        for place, width in enumerate(self.widths):
            y[:, start : start + width] += hidden[:, :, place].flatten(1) @ b[..., start : start + width].flatten(0, 1)
            start += width
