"""An assistant that knows only what is to be forgotten."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows, token_log_probs


class ULD(Objective):
    """Unlearning from logit difference (arXiv 2406.08607): an assistant that knows only what is to be forgotten::

        assistant = minus - plus
        L = mean over tokens y_t of the forget set of  -log softmax(assistant)(y_t)  +  retain term

    The retain term is ``Uniform``. The offset is ``-assistant``, times the rule's strength. The paper's assistant is a
    model of its own; here it is what the adapter of the minus lane adds to the small model, so it starts uniform, and
    wherever it stays so there is no offset.
    """

    reads = ("forget",)
    trained = "assistant"
    lanes = ("minus",)
    name: Literal["uld"] = "uld"

    def loss(self, rows: Rows) -> Tensor:
        """The mean over n rows."""
        return -token_log_probs(rows.ensemble, rows.tokens).mean()
