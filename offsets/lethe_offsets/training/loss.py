"""The loss of one batch, term by term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.ensemble import Ensemble
from lethe_offsets.training.objectives import CrossEntropy, Objective, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A weighted mean, a scalar, and over how many (see ``Objective.count``)."""

    value: Tensor
    count: int


def step_loss(config: TrainingConfig, ensemble: Ensemble, indices: Sequence[int], begins: Tensor) -> dict[str, Term]:
    """The weighted terms that have rows among the examples ``indices``, by name; their sum is the loss.

    The names are the objectives', and ``instead`` for what is taught beside the forgetting. Examples of one group
    (see ``data.groups``) must come together. begins [m]: token ids that ``retain_around`` leaves out.
    """
    batch = ensemble.batch(indices)
    terms: dict[str, Term] = {}
    forget = [getattr(batch, kind) for kind in config.objective.reads]
    if all(len(rows.tokens) for rows in forget):
        terms[config.objective.name] = _term(config.objective, *forget)
    if "instead" not in config.objective.reads and len(batch.instead.tokens):
        terms["instead"] = _term(CrossEntropy(weight=config.instead_weight), batch.instead)
    if config.retain is not None:
        retain = [getattr(batch, kind) for kind in config.retain.reads]
        if config.retain_around:
            retain = [rows.without(begins) for rows in retain]
        if all(len(rows.tokens) for rows in retain):
            terms[config.retain.name] = _term(config.retain, *retain)
    return terms


def _term(objective: Objective, *rows: Rows) -> Term:
    return Term(objective(*rows), objective.count(*rows))
