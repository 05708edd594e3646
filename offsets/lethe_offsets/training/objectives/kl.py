"""Staying with the large model, over the whole vocabulary."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from lethe_offsets.training.objectives.rows import Rows


class KL(BaseModel):
    """Divergence from the large model, averaged over tokens::

        L = weight * mean over tokens of  sum_v p_large(v) * (log p_large(v) - log p_ensemble(v))

    The retain term of KL minimisation and of the NPO + KL variant (arXiv 2404.05868).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["kl"] = "kl"
    weight: float = Field(default=1.0, ge=0.0, description="Weight of the retain term.")

    def __call__(self, rows: Rows) -> Tensor:
        """The loss, a scalar in nats."""
        large = rows.large.float().log_softmax(dim=-1)
        ensemble = rows.ensemble.float().log_softmax(dim=-1)
        return self.weight * (large.exp() * (large - ensemble)).sum(dim=-1).mean()
