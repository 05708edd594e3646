"""Adapter slots: which row carries which module, and the adapters' products for both lanes at once.

Stands in for vLLM's punica wrapper: vLLM moves adapters in and out of slots and says which token uses which one; here
all slots are computed with two products and a mask of each row's slot and lane. Nothing depends on the data, so it
compiles and is captured in graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lethe_offsets.pair import Rule, RuleRows


@dataclass(frozen=True)
class SlotRule:
    """What a slot's adapter means. plus_rank: its first ``plus_rank`` ranks act on the plus lane, the rest on minus."""

    rule: Rule
    plus_rank: int


class AdapterSlots:
    """The slots of one worker.

    slots: how many adapters one step can mix. rank: ranks per slot. max_tokens: rows of a step, one lane.
    """

    def __init__(self, slots: int, rank: int, max_tokens: int, device: torch.device) -> None:
        self.slots = slots
        self.rank = rank
        # Persistent: a captured graph reads these addresses, so they are only ever written in place.
        self.token_slots = torch.full((max_tokens,), -1, dtype=torch.long, device=device)
        self.plus_ranks = torch.full((slots,), rank, dtype=torch.long, device=device)
        self.rank_index = torch.arange(rank, device=device)
        self.slot_index = torch.arange(slots, device=device)
        self.rules = RuleRows.stack([None] * slots, device)
        self.any_module = False
        self._layout: list[int | None] = [None] * slots
        self._known: dict[int, SlotRule] = {}

    def register(self, adapter_id: int, entry: SlotRule) -> None:
        self._known[adapter_id] = entry
        self._rebuild()

    def forget(self, adapter_id: int) -> None:
        self._known.pop(adapter_id, None)
        self._rebuild()

    def update_metadata(
        self, mapping: Any, lora_index_to_id: list[int | None], max_loras: int, vocab_size: int, **kwargs: Any
    ) -> None:
        """Called by vLLM's adapter manager when a step's rows or the slots change."""
        slot_of = {adapter: slot for slot, adapter in enumerate(lora_index_to_id) if adapter is not None}
        rows = [slot_of[adapter] if adapter > 0 else -1 for adapter in mapping.index_mapping]
        self.any_module = any(row >= 0 for row in rows)
        self.token_slots[: len(rows)].copy_(torch.tensor(rows, dtype=torch.long), non_blocking=True)
        if lora_index_to_id != self._layout:
            self._layout = list(lora_index_to_id)
            self._rebuild()

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **kwargs: Any,
    ) -> Tensor:
        """``y[rows of a slot and lane] += x @ A.T @ B.T`` in place.

        y [2n, out], x [2n, in]: minus rows, then plus rows. A [slots, 1, rank, in] and B [slots, 1, out, rank] per
        slice of a fused projection; B lies transposed in memory (see :func:`transpose_storage`).
        """
        mask = self._row_mask(x.shape[0] // 2).to(x.dtype)
        offset = 0
        for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            hidden = (x @ a.reshape(-1, a.shape[-1]).T) * mask
            y[:, offset : offset + width] += hidden @ b.transpose(-1, -2).reshape(-1, b.shape[-2])
            offset += width
        return y

    def _row_mask(self, tokens: int) -> Tensor:
        """[2 * tokens, slots * rank] bool: the ranks of the row's slot that belong to its lane."""
        mine = self.token_slots[:tokens, None] == self.slot_index
        plus = self.rank_index < self.plus_ranks[:, None]
        lanes = torch.stack([~plus, plus])
        return (mine[None, :, :, None] & lanes[:, None]).reshape(2 * tokens, self.slots * self.rank)

    def _rebuild(self) -> None:
        entries = [self._known.get(adapter) if adapter is not None else None for adapter in self._layout]
        self.rules = RuleRows.stack([entry.rule if entry else None for entry in entries], self.token_slots.device)
        ranks = [entry.plus_rank if entry else self.rank for entry in entries]
        self.plus_ranks.copy_(torch.tensor(ranks, dtype=torch.long))


def transpose_storage(stacked: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same B matrices [slots, 1, out, rank] as views of [slots, 1, rank, out] memory.

    One product over all slots needs [slots * rank, out] in one piece; vLLM goes on writing through the view.
    """
    return tuple(b.transpose(-1, -2).contiguous().transpose(-1, -2) for b in stacked)
