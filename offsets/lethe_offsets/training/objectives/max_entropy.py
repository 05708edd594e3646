"""Guessing: every token equally probable where something was known."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows


class MaxEntropy(Objective):
    """ME of "A Closer Look at Machine Unlearning for Large Language Models" (arXiv 2410.08109)::

        L = mean over tokens of  KL(p_ensemble || uniform)  =  mean of  log V + sum_v p_ensemble(v) * log p_ensemble(v)

    V is the width of the logits. Between 0 and log V; with cross-entropy on the retain set it is the paper's ME + GD.
    (The authors' code has the divergence the other way round, which has no upper bound.)
    """

    reads = ("forget",)
    name: Literal["max_entropy"] = "max_entropy"
    weight: float = Field(default=0.1, ge=0.0, description="Factor on this term.")

    def loss(self, rows: Rows) -> Tensor:
        """The mean over n rows."""
        log_probs = rows.ensemble.float().log_softmax(dim=-1)
        return math.log(log_probs.shape[-1]) + (log_probs.exp() * log_probs).sum(dim=-1).mean()
