"""The logits that are trained, as the objectives see them: one lane differentiable, everything else fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor

from lethe_offsets.pair import Rule, RuleRows, apply_rules
from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import FixedLogits, LogitsFn, pad
from lethe_offsets.training.objectives import Rows, Trained

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The rows of some examples by what is asked of them; each kind may be empty.

    forget: what is to be forgotten. instead: what is taught to be said instead. retain: what is kept.
    contrast: refusals of questions to keep, never taught, only compared with the kept answers.
    """

    forget: Rows
    instead: Rows
    retain: Rows
    contrast: Rows


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """The logits that are trained, over ``examples`` on ``device``; special_ids [s] as in ``apply_rules``.

    ``adapted`` is the small model with the adapter in training. ``trained`` says what the objectives see: the
    ``ensemble``, ``apply_rules(large, adapted, minus)``, for an adapter of the plus lane; the ``assistant``,
    ``adapted - minus``, for one of the minus lane; or the ``lane`` alone, ``adapted``. The fixed ``minus`` is the
    small model itself in each case.
    """

    examples: Sequence[Example]
    fixed: FixedLogits
    adapted: LogitsFn
    rule: Rule
    special_ids: Tensor
    device: torch.device
    trained: Trained = "ensemble"

    def batch(self, indices: Sequence[int]) -> Batch:
        """The rows of these examples, with a gradient into the adapter."""
        chosen = [self.examples[index] for index in indices]
        ids, mask, predicted = pad(chosen)
        fixed_rows = self.fixed.rows(indices)
        adapted = self.adapted(ids.to(self.device), mask.to(self.device), predicted.to(self.device))
        large = self.fixed.large[fixed_rows].to(self.device)
        minus = self.fixed.minus[fixed_rows].to(self.device)
        unit, num_units = _number_units(chosen)
        record = list(accumulate(chosen, lambda number, example: number + (not example.paired), initial=-1))[1:]
        rows = Rows(
            ensemble=self._trained(large, adapted, minus),
            large=large,
            tokens=ids[:, 1:][predicted[:, :-1]].to(self.device),
            unit=unit.to(self.device),
            num_units=num_units,
            record=torch.tensor(_by_row(chosen, record), device=self.device),
            num_records=record[-1] + 1,
        )
        kinds = _by_row(chosen, [example.kind for example in chosen])
        own, instead, contrast = (
            torch.tensor([kind == wanted for kind in kinds], device=self.device)
            for wanted in ("own", "instead", "contrast")
        )
        forget = rows.unit >= 0
        return Batch(rows.take(forget), rows.take(instead), rows.take(own & ~forget), rows.take(contrast))

    def unit_starts(self) -> set[int]:
        """The tokens that begin a sequence to forget."""
        return {
            token
            for example in self.examples
            for token, unit, before in zip(example.ids[1:], example.unit[1:], example.unit[:-1], strict=True)
            if unit >= 0 and unit != before
        }

    def _trained(self, large: Tensor, adapted: Tensor, minus: Tensor) -> Tensor:
        if self.trained == "lane":
            return adapted.float()
        if self.trained == "assistant":
            return adapted.float() - minus.float()
        first = torch.zeros(len(large), dtype=torch.long, device=self.device)
        rules = RuleRows.stack([self.rule], self.device).take(first)
        return apply_rules(large, adapted, minus, rules, self.special_ids.to(self.device))


def _by_row(examples: Sequence[Example], values: Sequence[T]) -> list[T]:
    """Each example's value, once for each token that it predicts."""
    return [value for example, value in zip(examples, values, strict=True) for _ in range(sum(example.answer))]


def _number_units(examples: Sequence[Example]) -> tuple[Tensor, int]:
    """Each predicted token's sequence, numbered through the batch; -1 for none."""
    units: list[int] = []
    total = 0
    for example in examples:
        own = [unit for unit, predicted in zip(example.unit, example.answer, strict=True) if predicted]
        units += [unit + total if unit >= 0 else -1 for unit in own]
        total += max(own, default=-1) + 1
    return torch.tensor(units, dtype=torch.long), total
