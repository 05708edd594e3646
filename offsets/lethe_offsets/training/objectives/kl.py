"""Staying with the large model, over the whole vocabulary."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows


class KL(Objective):
    """Divergence from the large model on the retain set, averaged over tokens::

        L = mean over tokens of  sum_v p_large(v) * (log p_large(v) - log p_ensemble(v))

    The retain term of KL minimisation (TOFU, arXiv 2401.06121) and of NPO + KL (arXiv 2404.05868).
    """

    reads = ("retain",)
    name: Literal["kl"] = "kl"

    def loss(self, rows: Rows) -> Tensor:
        """The mean over n rows."""
        large = rows.large.float().log_softmax(dim=-1)
        ensemble = rows.ensemble.float().log_softmax(dim=-1)
        return (large.exp() * (large - ensemble)).sum(dim=-1).mean()
