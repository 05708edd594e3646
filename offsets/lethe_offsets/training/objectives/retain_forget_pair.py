"""A pair of fine-tuned lanes, with and without what is to be forgotten."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows, token_log_probs


class RetainForgetPair(Objective):
    """Divergence decoding (arXiv 2605.31293): minus is fine-tuned on all data, plus on the retain set alone::

        L_minus = mean over tokens y_t of the forget set of  -log p_minus(y_t | x, y_<t)  +  retain term
        L_plus  = retain term

    The retain term is cross-entropy; what a record says instead is taught to plus. Where only the forget set taught
    something, minus is larger than plus, and the offset lowers it.
    """

    reads = ("forget",)
    trained = "lane"
    lanes = ("plus", "minus")
    name: Literal["retain_forget_pair"] = "retain_forget_pair"

    def loss(self, rows: Rows) -> Tensor:
        """The mean over n rows."""
        return -token_log_probs(rows.ensemble, rows.tokens).mean()
