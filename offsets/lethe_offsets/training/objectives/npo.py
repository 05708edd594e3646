"""Negative preference optimisation."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows, sum_by_unit, token_log_probs


class NPO(Objective):
    """NPO, "Negative Preference Optimization" (arXiv 2404.05868), with the large model as reference::

        L = -(2 / beta) * mean over sequences y of  log sigmoid(-beta * (log p_ensemble(y|x) - log p_large(y|x)))

    Never below zero; its gradient fades for sequences that are already improbable, so it doesn't run away as
    gradient ascent does (the limit of beta towards 0).
    """

    reads = ("forget",)
    name: Literal["npo"] = "npo"
    beta: float = Field(default=0.1, gt=0.0, description="Inverse temperature; the larger, the sooner it rests.")

    def loss(self, rows: Rows) -> Tensor:
        """The mean over num_units sequences."""
        gain = token_log_probs(rows.ensemble, rows.tokens) - token_log_probs(rows.large, rows.tokens)
        return -(2.0 / self.beta) * F.logsigmoid(-self.beta * sum_by_unit(gain, rows)).mean()

    def count(self, *args: Rows) -> int:
        """Sequences."""
        return args[0].num_units
