"""What an objective sees: one row for each token whose probability counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

NEVER = -1e4  # a logit whose probability is zero, and finite: zero times it is zero


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n rows of one batch.

    ensemble [n, vocab]: the trained logits, float32, differentiable. large [n, vocab]: the large model's.
    tokens [n]: the token each row predicts. unit [n]: which sequence to forget a row belongs to, 0 to
    ``num_units - 1``, or -1 for none; a whole answer is one sequence, and so is each marked span of a text.
    record [n]: which question of the batch a row answers, 0 to ``num_records - 1``; two answers of one question that
    are compared with each other share it.
    """

    ensemble: Tensor
    large: Tensor
    tokens: Tensor
    unit: Tensor
    num_units: int
    record: Tensor
    num_records: int

    def take(self, chosen: Tensor) -> Rows:
        """The rows where ``chosen`` [n], bool."""
        return replace(
            self,
            ensemble=self.ensemble[chosen],
            large=self.large[chosen],
            tokens=self.tokens[chosen],
            unit=self.unit[chosen],
            record=self.record[chosen],
        )

    def without(self, ids: Tensor) -> Rows:
        """The same over a vocabulary without ``ids`` [m]; rows that predict one of them are left out."""
        rows = self.take(~torch.isin(self.tokens, ids))
        large, ensemble = (logits.index_fill(-1, ids, NEVER) for logits in (rows.large, rows.ensemble))
        return replace(rows, large=large, ensemble=ensemble)


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log softmax of ``logits`` [n, vocab] at ``tokens`` [n]: shape [n], nats."""
    return logits.float().gather(-1, tokens[:, None])[:, 0] - logits.float().logsumexp(dim=-1)


def sum_by_unit(values: Tensor, rows: Rows) -> Tensor:
    """Sums of ``values`` [n] over the rows of each sequence to forget: shape [num_units]."""
    return _sum_by(values, rows.unit, rows.num_units)


def sum_by_record(values: Tensor, rows: Rows) -> Tensor:
    """Sums of ``values`` [n] over the rows of each question: shape [num_records]."""
    return _sum_by(values, rows.record, rows.num_records)


def has_rows(rows: Rows) -> Tensor:
    """Which questions of the batch are among ``rows``: bool, shape [num_records]."""
    return rows.record.bincount(minlength=rows.num_records) > 0


def _sum_by(values: Tensor, group: Tensor, size: int) -> Tensor:
    return torch.zeros(size, dtype=values.dtype, device=values.device).index_add(0, group, values)
