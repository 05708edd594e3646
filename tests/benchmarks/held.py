"""A gate with hysteresis, to be measured only: the engine has none, see ``offsets/README.md``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from unittest.mock import patch

import torch
from torch import Tensor

from lethe_offsets.comparison.builds import Builds
from lethe_offsets.comparison.judge import Candidate, judge
from lethe_offsets.evaluation import generation, scoring
from lethe_offsets.evaluation.stepping import Stepper, offset_logits
from lethe_offsets.pair import divergence
from lethe_offsets.training.progress import Report
from lethe_offsets.training.reference import ReferenceEnsemble


class HeldStepper(Stepper):
    """The rule's gate opens as ever; once open it closes where the offset is smaller than ``share`` of it.

    The state of each row goes from a position of the answer to the next; it is closed before the first.
    """

    def __init__(self, ensemble: ReferenceEnsemble, share: float) -> None:
        super().__init__(ensemble)
        self._opens, self._closes = ensemble.rule.gate, share * ensemble.rule.gate
        self._free = dataclasses.replace(ensemble, rule=dataclasses.replace(ensemble.rule, gate=0.0))
        self._open: Tensor | None = None

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        self._open = torch.zeros(len(prompts), dtype=torch.bool)
        return super().begin(prompts)

    def step(self, ids: Tensor, used: Tensor, last: bool = False) -> Tensor:
        large, *lanes = self._caches.step(ids, used, last)
        if not lanes:
            return large.float()
        sizes, is_open, states = divergence(*lanes), self._open, []
        for size in sizes.unbind(dim=1):
            is_open = (size >= self._opens) | (is_open & (size >= self._closes))
            states.append(is_open)
        self._open = is_open
        return torch.where(
            torch.stack(states, dim=1)[..., None], offset_logits(self._free, large, *lanes), large.float()
        )

    def take(self, rows: Tensor) -> None:
        super().take(rows)
        self._open = self._open[rows]


def judge_held(builds: Builds, candidate: Candidate, share: float, report: Report) -> None:
    """As ``judge``, under a gate that is held open."""
    with ExitStack() as patched:
        for module in (generation, scoring):
            patched.enter_context(patch.object(module, "Stepper", lambda ensemble: HeldStepper(ensemble, share)))
        judge(builds, candidate, report)
