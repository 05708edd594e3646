"""How far a run has forgotten and what it has kept, by forward passes on a fixed sample.

A score is the mean over answers y of TOFU's probability (arXiv 2401.06121), over what is to be forgotten of a forget
record, and over the whole answer of a retain record::

    p(y | x) ** (1 / |y|)

The score that a run is judged by, at most 1 and 0 before training::

    min(1, retain / retain before) - forget / forget before

Both are shares of what was there, so neither a hard retain set nor a forget set that was half known weighs less. The
bound is there because learning the retain set better makes up for nothing that is still known of the other.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from lethe_offsets.training.ensemble import Ensemble
from lethe_offsets.training.objectives.rows import Rows, sum_by_record, token_log_probs

SCORE = "min(1, retain / retain before) - forget / forget before"
SAMPLE = 64  # answers of each set
PASS_EXAMPLES = 8


class Score(BaseModel):
    """After ``step`` steps: mean answer probabilities, each in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    forget: float
    retain: float

    def against(self, start: Score) -> float:
        """What the run is judged by, see above; ``start`` is the score before it."""
        return judged(self.forget / start.forget, self.retain / start.retain)


def judged(forget: float, retain: float) -> float:
    """What a module is judged by, see above: the shares of both scores before it that are left."""
    return min(1.0, retain) - forget


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """Scores an ensemble on the examples of these indices."""

    ensemble: Ensemble
    forget: Sequence[int]
    retain: Sequence[int]

    @classmethod
    def draw(cls, ensemble: Ensemble, num_forget: int, seed: int) -> Scorer:
        """A sample of both sets; the first ``num_forget`` examples are the forget set."""
        examples = ensemble.examples
        known = [index for index in range(num_forget) if any(unit >= 0 for unit in examples[index].unit)]
        others = [index for index in range(num_forget, len(examples)) if examples[index].kind == "own"]
        draw = random.Random(f"{seed} scores")
        forget, retain = (sorted(draw.sample(of, min(SAMPLE, len(of)))) for of in (known, others))
        return cls(ensemble, forget, retain)

    def score(self, step: int) -> Score:
        """The score of the ensemble as it is now. Raises FloatingPointError where it is not finite."""
        score = Score(step=step, forget=self._mean(self.forget, "forget"), retain=self._mean(self.retain, "retain"))
        if not (math.isfinite(score.forget) and math.isfinite(score.retain)):
            raise FloatingPointError(f"the scores are not finite at step {step}")
        return score

    def _mean(self, indices: Sequence[int], kind: Literal["forget", "retain"]) -> float:
        found: list[float] = []
        with torch.no_grad():
            for at in range(0, len(indices), PASS_EXAMPLES):
                batch = self.ensemble.batch(indices[at : at + PASS_EXAMPLES])
                found += answer_probabilities(getattr(batch, kind)).tolist()
        return sum(found) / len(found)


def answer_probabilities(rows: Rows) -> Tensor:
    """p(y | x) ** (1 / |y|) of each record: float64, shape [num_records]; each must have rows."""
    log_probs = token_log_probs(rows.ensemble, rows.tokens).double()
    return (sum_by_record(log_probs, rows) / sum_by_record(torch.ones_like(log_probs), rows)).exp()
