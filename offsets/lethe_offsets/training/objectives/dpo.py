"""Direct preference optimisation: the refusal preferred over the true answer."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows, has_rows, sum_by_record, token_log_probs


class DPO(Objective):
    """DPO (arXiv 2305.18290) as TOFU and NPO (arXiv 2404.05868) use it, with the large model as reference::

        gain(y) = log p_ensemble(y|x) - log p_large(y|x)
        L = -(2 / beta) * mean over questions x of  log sigmoid(beta * (gain(y_instead) - gain(y_forget)))

    with the factor 2 / beta of TOFU's and NPO's code. Only the difference counts: the true answer may stay probable
    where the refusal has become more so.
    """

    reads = ("forget", "instead")
    name: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0.0, description="Inverse temperature; the larger, the sooner it rests.")

    def loss(self, forget: Rows, instead: Rows) -> Tensor:
        """The mean over the questions that have rows; each has them in both kinds."""
        margin = _gain(instead) - _gain(forget)
        return -(2.0 / self.beta) * F.logsigmoid(self.beta * margin[has_rows(forget)]).mean()

    def count(self, *args: Rows) -> int:
        """Questions."""
        return int(has_rows(args[0]).sum())


def _gain(rows: Rows) -> Tensor:
    gain = token_log_probs(rows.ensemble, rows.tokens) - token_log_probs(rows.large, rows.tokens)
    return sum_by_record(gain, rows)
