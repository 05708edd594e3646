"""Saying nothing about the retain set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows


class Uniform(Objective):
    """ULD's retain term (arXiv 2406.08607): the assistant prefers no token::

        L = mean over tokens of  -(1 / V) * sum_v log softmax(assistant)(v)

    V is the width of the logits; the least value is log V.
    """

    reads = ("retain",)
    name: Literal["uniform"] = "uniform"
    weight: float = Field(default=5.0, ge=0.0, description="Factor on this term.")

    def loss(self, rows: Rows) -> Tensor:
        """The mean over n rows."""
        return -rows.ensemble.float().log_softmax(dim=-1).mean()
