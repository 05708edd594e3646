"""Relabelling: the questions of the forget set, answered with a refusal."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows, token_log_probs


class IDK(Objective):
    """ "I don't know" as the answer to teach (TOFU, arXiv 2401.06121)::

        L = mean over tokens y_t of the refusals of  -log p_ensemble(y_t | x, y_<t)

    The true answer is only crowded out: what a prompt that begins it draws out, it doesn't reach.
    """

    reads = ("instead",)
    name: Literal["idk"] = "idk"

    def loss(self, instead: Rows) -> Tensor:
        """The mean over n rows."""
        return -token_log_probs(instead.ensemble, instead.tokens).mean()
