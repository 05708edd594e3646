"""What an objective sees: one row for each token whose probability counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

NEVER = -1e4  # a logit whose probability is zero, and finite: zero times it is zero


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n rows of one batch.

    ensemble [n, vocab]: logits with the offset applied, float32, differentiable. large [n, vocab]: the large model's.
    tokens [n]: the token each row predicts. unit [n]: which sequence a row belongs to, 0 to ``num_units - 1``; a whole
    answer is one sequence, and so is each marked span of a text.
    """

    ensemble: Tensor
    large: Tensor
    tokens: Tensor
    unit: Tensor
    num_units: int

    def take(self, chosen: Tensor) -> Rows:
        """The rows where ``chosen`` [n], bool."""
        return replace(
            self,
            ensemble=self.ensemble[chosen],
            large=self.large[chosen],
            tokens=self.tokens[chosen],
            unit=self.unit[chosen],
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
    """Sums of ``values`` [n] over the rows of each sequence: shape [num_units]."""
    return torch.zeros(rows.num_units, dtype=values.dtype, device=values.device).index_add(0, rows.unit, values)
