"""Adapter slots: which row carries which modules, and the adapters' products for all lanes.

Stands in for vLLM's punica wrapper: vLLM moves adapters in and out of slots and says which token uses which one. The
products are one operator of ours on the CPU (``kernels``); elsewhere all slots are computed at once and masked by each
row's slot and lane. Nothing in the graph depends on the data, so both compile and are captured.
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
    """What a slot's adapter means: a module for each pair, or for the first ones.

    bounds [2 * modules + 1]: the ranks from ``bounds[lane]`` to ``bounds[lane + 1]`` act on a lane: minus, plus, minus
    of the second module, and so on.
    """

    rules: tuple[Rule, ...]
    bounds: tuple[int, ...]


class AdapterSlots:
    """The slots of one worker.

    slots: how many adapters one step can mix. rank: ranks per slot. max_tokens: rows of a step, one lane. fused: the
    operators of ``kernels`` have been loaded and are used. capacity: adapters in the engine. pairs: of lanes, the most
    modules that one adapter holds.
    """

    def __init__(
        self,
        slots: int,
        rank: int,
        max_tokens: int,
        device: torch.device,
        fused: bool,
        capacity: int = 0,
        pairs: int = 1,
    ) -> None:
        self.slots = slots
        self.rank = rank
        self.lanes = 2 * pairs
        self.fused = fused
        # Persistent: a captured graph reads these addresses, so they are only ever written in place.
        self.token_slots = torch.full((max_tokens,), -1, dtype=torch.long, device=device)
        self.bounds = torch.zeros(slots, self.lanes + 1, dtype=torch.long, device=device)
        self.rank_index = torch.arange(rank, device=device)
        self.slot_index = torch.arange(slots, device=device)
        self.rules = [RuleRows.stack([None] * slots, device) for _ in range(pairs)]
        self.weights = torch.empty(0)  # of all layers, see LayerAdapters
        self.tallies = Tallies(slots, max(capacity, slots), device)
        self.evictions = 0
        self.any_module = False
        self.all_modules = False
        self._in_step: frozenset[int] = frozenset()  # slots
        self._num_modules = torch.zeros(slots + 1, dtype=torch.long, device=device)  # the last: of slot -1, none
        self._layout: list[int | None] = [None] * slots
        self._known: dict[int, SlotRule] = {}

    def register(self, adapter_id: int, entry: SlotRule) -> None:
        if not len(entry.bounds) - 1 == 2 * len(entry.rules) <= self.lanes:
            raise ValueError(f"{len(entry.rules)} rules and {len(entry.bounds)} bounds for {self.lanes} lanes")
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
        self._in_step = frozenset(rows) - {-1}
        self.any_module = bool(self._in_step)
        self.all_modules = self.any_module and -1 not in rows
        self.token_slots[: len(rows)].copy_(torch.tensor(rows, dtype=torch.long), non_blocking=True)
        if lora_index_to_id != self._layout:
            changed = [old for old, new in zip(self._layout, lora_index_to_id, strict=True) if new not in (None, old)]
            self.evictions += sum(old in self._known for old in changed)
            self._layout = list(lora_index_to_id)
            self._rebuild()

    @property
    def pairs_used(self) -> int:
        """The most modules of a row of the step."""
        return max((len(self._rules_in(slot)) for slot in self._in_step), default=0)

    def rules_of(self, slots: Tensor) -> list[RuleRows]:
        """The rules of rows, by pair in use. slots [n]: -1 for a row without a module."""
        first = self.rules[0].take(slots, self.all_modules)
        further = (
            rules.take(torch.where(self._num_modules[slots] > pair, slots, -1))
            for pair, rules in enumerate(self.rules[1 : self.pairs_used], start=1)
        )
        return [first, *further]

    def row_mask(self, tokens: int) -> Tensor:
        """[lanes * tokens, slots, rank] bool: the ranks of the row's slot that belong to its lane."""
        mine = self.token_slots[:tokens, None] == self.slot_index
        after = self.rank_index >= self.bounds.T[:-1, :, None]
        before = self.rank_index < self.bounds.T[1:, :, None]
        return (mine[:, None, :, None] & after & before).flatten(0, 1)

    def _entry(self, slot: int) -> SlotRule | None:
        adapter = self._layout[slot]
        return None if adapter is None else self._known.get(adapter)

    def _rules_in(self, slot: int) -> Sequence[Rule | None]:
        """One for each module; where they are not known one of every pair: so vLLM profiles the most there can be."""
        entry = self._entry(slot)
        return entry.rules if entry else (None,) * len(self.rules)

    def _bounds_in(self, slot: int) -> list[int]:
        """Of all lanes; those without a module have no ranks."""
        entry = self._entry(slot)
        bounds = entry.bounds if entry else (0,)
        return [*bounds, *[bounds[-1]] * (self.lanes + 1 - len(bounds))]

    def _rebuild(self) -> None:
        held = [self._rules_in(slot) for slot in range(self.slots)]
        device = self.token_slots.device
        for pair in range(len(self.rules)):  # a pair beyond a slot's modules is not looked at
            self.rules[pair] = RuleRows.stack([rules[pair] if pair < len(rules) else Rule() for rules in held], device)
        self._num_modules[:-1].copy_(torch.tensor([len(rules) for rules in held]))
        self.bounds.copy_(torch.tensor([self._bounds_in(slot) for slot in range(self.slots)]))
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

        y [lanes * n, out], x [lanes * n, in]: a token's rows follow each other.
        """
        slots = self.slots
        if slots.fused:
            torch.ops.lethe.add_adapters(
                y, x, slots.weights, self.start, slots.rank, self.widths, slots.token_slots, slots.bounds
            )
            return
        a, b = self.matrices()
        mask = slots.row_mask(x.shape[0] // slots.lanes).to(x.dtype)
        hidden = (x @ a.flatten(0, 2).T).view(-1, slots.slots, len(self.widths), slots.rank) * mask[:, :, None]
        start = 0
        for place, width in enumerate(self.widths):
            y[:, start : start + width] += hidden[:, :, place].flatten(1) @ b[..., start : start + width].flatten(0, 1)
            start += width
