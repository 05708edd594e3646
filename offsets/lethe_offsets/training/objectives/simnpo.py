"""Negative preference optimisation without a reference."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows, sum_by_unit, token_log_probs


class SimNPO(Objective):
    """SimNPO, "Simplicity Prevails" (arXiv 2410.07163): no reference, and every sequence counts by its mean token::

        L = -(2 / beta) * mean over sequences y of  log sigmoid(-(beta / |y|) * log p_ensemble(y|x) - gamma)

    |y| is the number of tokens. Long sequences are pushed as hard as short ones, and those that the large model
    hardly knew aren't pushed because of it.
    """

    reads = ("forget",)
    name: Literal["simnpo"] = "simnpo"
    weight: float = Field(default=0.1375, ge=0.0, description="Factor on this term.")
    beta: float = Field(default=2.5, gt=0.0, description="Inverse temperature; the larger, the sooner it rests.")
    gamma: float = Field(default=0.0, ge=0.0, description="Margin; the larger, the further answers are pushed down.")

    def loss(self, rows: Rows) -> Tensor:
        """The mean over num_units sequences."""
        log_probs = token_log_probs(rows.ensemble, rows.tokens)
        mean = sum_by_unit(log_probs, rows) / sum_by_unit(torch.ones_like(log_probs), rows)
        return -(2.0 / self.beta) * F.logsigmoid(-self.beta * mean - self.gamma).mean()

    def count(self, *args: Rows) -> int:
        """Sequences."""
        return args[0].num_units
