"""Gradient ascent on what is to be forgotten."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows, token_log_probs


class GradientAscent(Objective):
    """The cross-entropy of the forget set with its sign turned (Jang et al., arXiv 2210.01504)::

        L = mean over tokens y_t of  log p_ensemble(y_t | x, y_<t)

    With a retain term it is gradient difference or KL minimisation (TOFU, arXiv 2401.06121). It has no minimum: it
    pushes for as long as it is trained, and what else the model knew goes as well.
    """

    reads = ("forget",)
    bounded = False
    name: Literal["grad_ascent"] = "grad_ascent"

    def loss(self, rows: Rows) -> Tensor:
        """The mean over n rows; falls without end."""
        return token_log_probs(rows.ensemble, rows.tokens).mean()
