"""What offsets did to the rows of logits, counted on the device and read now and then: no step waits for it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from operator import add

import torch
from torch import Tensor

from lethe_offsets.pair import RuleRows

COMPARED_EVERY = 64  # rows: a comparison reads five times as much of the vocabulary as an offset does
DIVERGENCE_BOUNDS = (0.01, 0.1, 1.0, 5.0)  # nats
NOBODY = 0  # the account of rows without a module, and of modules that are not counted


@dataclass(frozen=True)
class Tally:
    """Rows of one module. refused: not finite, or without a rule. compared: those looked at closely, chosen at random.

    changed: compared rows with another most likely token than the large model's. clipped: compared rows with an element
    beyond the rule's clip. divergence: sum over the compared rows of KL(offset distribution || large), nats. within:
    how many of them are at most each of ``DIVERGENCE_BOUNDS``.
    """

    rows: int
    refused: int
    compared: int
    changed: int
    clipped: int
    divergence: float
    within: tuple[int, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Tally:
        rows, refused, compared, changed, clipped, divergence, *within = values
        counts = (int(rows), int(refused), int(compared), int(changed), int(clipped))
        return cls(*counts, divergence, tuple(map(int, within)))

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            rows=self.rows + other.rows,
            refused=self.refused + other.refused,
            compared=self.compared + other.compared,
            changed=self.changed + other.changed,
            clipped=self.clipped + other.clipped,
            divergence=self.divergence + other.divergence,
            within=tuple(starmap(add, zip(self.within, other.within, strict=True))),
        )


class Tallies:
    """The counts of one worker, an account for each adapter: a slot that gets another adapter mixes nothing.

    slots: adapter slots. capacity: adapters that are counted at a time. every: one row in so many is compared.
    Buffers are written in place, and their shapes follow from the number of rows alone.
    """

    def __init__(self, slots: int, capacity: int, device: torch.device, every: int = COMPARED_EVERY) -> None:
        self.every = every
        # Slot -1, a row without a module, finds the last one.
        self._account_of = torch.full((slots + 1,), NOBODY, dtype=torch.long, device=device)
        self._seen = torch.zeros(2 * (capacity + 1), dtype=torch.double, device=device)  # of each: sound, refused
        self._one = torch.ones(1, dtype=torch.double, device=device)
        self._compared = torch.zeros(capacity + 1, 4 + len(DIVERGENCE_BOUNDS), dtype=torch.double, device=device)
        self._bounds = torch.tensor(DIVERGENCE_BOUNDS, device=device)
        self._accounts: dict[int, int] = {}
        self._closing: set[int] = set()
        self._free = list(range(capacity, NOBODY, -1))
        self._random = random.Random()

    def open(self, adapter_id: int) -> None:
        """Count an adapter from the next ``place`` on, if there is an account for it."""
        if not self._free:
            self._drop_closed()  # nobody reads
        if self._free and adapter_id not in self._accounts:
            self._accounts[adapter_id] = self._free.pop()

    def close(self, adapter_id: int) -> None:
        """The adapter is gone; what was counted is still read."""
        if adapter_id in self._accounts:
            self._closing.add(adapter_id)

    def place(self, layout: Sequence[int | None]) -> None:
        """layout: the adapter in each slot."""
        accounts = [NOBODY if adapter is None else self._accounts.get(adapter, NOBODY) for adapter in layout]
        self._account_of.copy_(torch.tensor([*accounts, NOBODY]))

    def add(
        self,
        slots: Tensor,
        large: Tensor,
        pairs: Sequence[tuple[Tensor, Tensor]],
        logits: Tensor,
        rules: Sequence[RuleRows],
    ) -> None:
        """Count a step's rows: the models' logits, and what ``apply_sum`` made of them. slots [n]: -1 for none.

        Each row is compared with the same probability, whatever the batch; a step's share of the work is its rows'.
        """
        accounts = self._account_of[slots]
        refused = logits[:, 0].isnan()
        self._seen.index_add_(0, 2 * accounts + refused, self._one.expand(logits.shape[0]))
        first = self._random.randrange(self.every)
        if first >= logits.shape[0]:
            return
        chosen = slice(first, None, self.every)
        clipped = _clipped(pairs, rules, chosen)
        looked = _compare(large[chosen], logits[chosen], clipped, self._bounds)
        looked = torch.where(refused[chosen, None], 0.0, looked)
        self._compared.index_add_(0, accounts[chosen], looked.double())

    def read(self) -> list[tuple[int, list[float]]]:
        """Adapters with rows since the last call, and the values of their ``Tally``. Waits for the device."""
        sound, refused = self._seen.view(-1, 2).unbind(1)
        values = torch.cat([torch.stack([sound + refused, refused], dim=-1), self._compared], dim=-1).tolist()
        self._seen.zero_()
        self._compared.zero_()
        counted = [(adapter, values[account]) for adapter, account in self._accounts.items() if values[account][0]]
        self._drop_closed()
        return counted

    def _drop_closed(self) -> None:
        for adapter_id in self._closing:
            account = self._accounts.pop(adapter_id)
            self._seen[2 * account : 2 * account + 2] = 0
            self._compared[account] = 0
            self._account_of.masked_fill_(self._account_of == account, NOBODY)
            self._free.append(account)
        self._closing.clear()


def _clipped(pairs: Sequence[tuple[Tensor, Tensor]], rules: Sequence[RuleRows], chosen: slice) -> Tensor:
    """[m] float: whether any module of a row has an element beyond its clip."""
    found = torch.zeros(pairs[0][0][chosen].shape[0], dtype=torch.bool, device=pairs[0][0].device)
    for (plus, minus), own in zip(pairs, rules, strict=True):
        if own.any_clip:
            beyond = (plus[chosen].float() - minus[chosen]).abs().amax(dim=-1) > own.clip[chosen]
            found |= beyond if own.active is None else beyond & own.active[chosen]
    return found.float()


def _compare(large: Tensor, logits: Tensor, clipped: Tensor, bounds: Tensor) -> Tensor:
    """[m, columns]: compared, changed, clipped, divergence, and whether it is within each bound."""
    ours, theirs = logits.log_softmax(dim=-1), large.float().log_softmax(dim=-1)
    # nansum: a token that neither gives any probability is 0 * (inf - inf). Rounding can leave a little less than 0.
    divergence = (ours.exp() * (ours - theirs)).nansum(dim=-1).clamp_min(0.0)
    changed = ours.argmax(dim=-1) != theirs.argmax(dim=-1)
    counts = torch.stack([torch.ones_like(divergence), changed.float(), clipped, divergence], dim=-1)
    return torch.cat([counts, (divergence[:, None] <= bounds).float()], dim=-1)
