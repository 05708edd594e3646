"""The ensemble as the trainer sees it: the plus lane differentiable, everything else fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lethe_offsets.pair import Rule, RuleRows, apply_rules
from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import FixedLogits, LogitsFn, pad
from lethe_offsets.training.objectives import Rows


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The rows of some examples by what is asked of them; each kind may be empty."""

    forget: Rows
    taught: Rows
    retain: Rows


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """``apply_rules(large, plus, minus)`` over ``examples``, on ``device``; special_ids [s] as in ``apply_rules``."""

    examples: Sequence[Example]
    fixed: FixedLogits
    plus: LogitsFn
    rule: Rule
    special_ids: Tensor
    device: torch.device

    def batch(self, indices: Sequence[int]) -> Batch:
        """The rows of these examples, with a gradient into the plus lane."""
        chosen = [self.examples[index] for index in indices]
        ids, mask, predicted = pad(chosen)
        fixed_rows = self.fixed.rows(indices)
        plus = self.plus(ids.to(self.device), mask.to(self.device))[predicted.to(self.device)]
        large = self.fixed.large[fixed_rows].to(self.device)
        minus = self.fixed.minus[fixed_rows].to(self.device)
        first = torch.zeros(len(large), dtype=torch.long, device=self.device)
        rules = RuleRows.stack([self.rule], self.device).take(first)
        unit, num_units = _number_units(chosen)
        rows = Rows(
            ensemble=apply_rules(large, plus, minus, rules, self.special_ids.to(self.device)),
            large=large,
            tokens=ids[:, 1:][predicted[:, :-1]].to(self.device),
            unit=unit.to(self.device),
            num_units=num_units,
        )
        forget = rows.unit >= 0
        taught = torch.tensor([e.taught for e in chosen for predicted in e.answer if predicted], device=self.device)
        return Batch(rows.take(forget), rows.take(taught), rows.take(~(forget | taught)))

    def unit_starts(self) -> set[int]:
        """The tokens that begin a sequence to forget."""
        return {
            token
            for example in self.examples
            for token, unit, before in zip(example.ids[1:], example.unit[1:], example.unit[:-1], strict=True)
            if unit >= 0 and unit != before
        }


def _number_units(examples: Sequence[Example]) -> tuple[Tensor, int]:
    """Each predicted token's sequence, numbered through the batch; -1 for none."""
    units: list[int] = []
    total = 0
    for example in examples:
        own = [unit for unit, predicted in zip(example.unit, example.answer, strict=True) if predicted]
        units += [unit + total if unit >= 0 else -1 for unit in own]
        total += max(own, default=-1) + 1
    return torch.tensor(units, dtype=torch.long), total
