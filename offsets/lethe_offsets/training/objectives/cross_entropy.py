"""Keeping the retain set's answers probable."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows, token_log_probs


class CrossEntropy(Objective):
    """Ordinary language modelling on the retain set, averaged over tokens::

        L = mean over tokens y_t of  -log p_ensemble(y_t | x, y_<t)

    The retain term of gradient difference (TOFU, arXiv 2401.06121) and of NPO + RT (arXiv 2404.05868). It keeps the
    answers, not the doubts: KL holds what the large model thought possible besides.
    """

    reads = ("retain",)
    name: Literal["cross_entropy"] = "cross_entropy"

    def loss(self, rows: Rows) -> Tensor:
        """The mean over n rows."""
        return -token_log_probs(rows.ensemble, rows.tokens).mean()
