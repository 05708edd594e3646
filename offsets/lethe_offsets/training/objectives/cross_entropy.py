"""Keeping the retain set's answers probable."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from lethe_offsets.training.objectives.rows import Rows, token_log_probs


class CrossEntropy(BaseModel):
    """Ordinary language modelling on the retain set, averaged over tokens (NPO + RT, arXiv 2404.05868)::

        L = weight * mean over tokens y_t of  -log p_ensemble(y_t | x, y_<t)

    It keeps the answers, not the doubts: KL holds what the large model thought possible besides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["cross_entropy"] = "cross_entropy"
    weight: float = Field(default=1.0, ge=0.0, description="Weight of the retain term.")

    def __call__(self, rows: Rows) -> Tensor:
        """The loss, a scalar in nats."""
        return -self.weight * token_log_probs(rows.ensemble, rows.tokens).mean()
