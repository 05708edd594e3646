"""Self-distillation with adjusted logits."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows


class Undial(Objective):
    """UNDIAL, "Self-Distillation with Adjusted Logits" (arXiv 2402.10052), with the large model as teacher::

        L = mean over tokens y_t of  KL(softmax(large - gamma * onehot(y_t)) || softmax(ensemble))

    (the paper's cross-entropy less the teacher's entropy, which is constant). The token to forget loses ``gamma`` in
    the teacher and the others keep their proportions, so what is said instead is what the large model thought next
    best. Bounded for every token by itself: fit for short spans within a text.
    """

    reads = ("forget",)
    name: Literal["undial"] = "undial"
    gamma: float = Field(default=10.0, gt=0.0, description="How far the forgotten token's logit is lowered, in nats.")

    def loss(self, rows: Rows) -> Tensor:
        """The mean over n rows."""
        penalty = torch.full_like(rows.tokens, -self.gamma, dtype=torch.float32)[:, None]
        teacher = rows.large.float().scatter_add(-1, rows.tokens[:, None], penalty).log_softmax(dim=-1)
        student = rows.ensemble.float().log_softmax(dim=-1)
        return (teacher.exp() * (teacher - student)).sum(dim=-1).mean()
