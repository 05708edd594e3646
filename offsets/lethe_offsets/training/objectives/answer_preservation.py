"""Preferring the true answer to a refusal, where nothing is to be forgotten."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lethe_offsets.training.objectives.objective import Objective
from lethe_offsets.training.objectives.rows import Rows, has_rows, sum_by_record, token_log_probs


class AnswerPreservation(Objective):
    """AP of "A Closer Look at Machine Unlearning for Large Language Models" (arXiv 2410.08109), on the retain set::

        L = -(1 / beta) * mean over questions x of  log sigmoid(-beta * log(p_ensemble(y_idk|x) / p_ensemble(y|x)))

    Keeps a model that learns to refuse from refusing everything. Rests once the true answer is far more probable
    than the refusal, so it holds less of the wording than KL or cross-entropy do.
    """

    reads = ("retain", "contrast")
    name: Literal["answer_preservation"] = "answer_preservation"
    beta: float = Field(default=0.1, gt=0.0, description="Inverse temperature; the larger, the sooner it rests.")

    def loss(self, retain: Rows, contrast: Rows) -> Tensor:
        """The mean over the questions that have rows in ``contrast``; retained rows without it don't count."""
        ratio = _log_prob(contrast) - _log_prob(retain)
        return -(1.0 / self.beta) * F.logsigmoid(-self.beta * ratio[has_rows(contrast)]).mean()

    def count(self, *args: Rows) -> int:
        """Questions."""
        return int(has_rows(args[1]).sum())


def _log_prob(rows: Rows) -> Tensor:
    return sum_by_record(token_log_probs(rows.ensemble, rows.tokens), rows)
