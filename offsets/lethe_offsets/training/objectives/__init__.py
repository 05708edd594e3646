"""Training objectives, one per file; the unions are the registry, chosen by ``name`` in the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lethe_offsets.training.objectives.answer_preservation import AnswerPreservation
from lethe_offsets.training.objectives.cross_entropy import CrossEntropy
from lethe_offsets.training.objectives.dpo import DPO
from lethe_offsets.training.objectives.gradient_ascent import GradientAscent
from lethe_offsets.training.objectives.idk import IDK
from lethe_offsets.training.objectives.kl import KL
from lethe_offsets.training.objectives.max_entropy import MaxEntropy
from lethe_offsets.training.objectives.npo import NPO
from lethe_offsets.training.objectives.objective import Objective, RowKind, Trained
from lethe_offsets.training.objectives.retain_forget_pair import RetainForgetPair
from lethe_offsets.training.objectives.rows import Rows
from lethe_offsets.training.objectives.simnpo import SimNPO
from lethe_offsets.training.objectives.uld import ULD
from lethe_offsets.training.objectives.undial import Undial
from lethe_offsets.training.objectives.uniform import Uniform

ForgetObjective = Annotated[
    GradientAscent | IDK | DPO | NPO | SimNPO | MaxEntropy | Undial | RetainForgetPair | ULD,
    Field(discriminator="name"),
]
RetainObjective = Annotated[KL | CrossEntropy | AnswerPreservation | Uniform, Field(discriminator="name")]

__all__ = [
    "DPO",
    "IDK",
    "KL",
    "NPO",
    "ULD",
    "AnswerPreservation",
    "CrossEntropy",
    "ForgetObjective",
    "GradientAscent",
    "MaxEntropy",
    "Objective",
    "RetainForgetPair",
    "RetainObjective",
    "RowKind",
    "Rows",
    "SimNPO",
    "Trained",
    "Undial",
    "Uniform",
]
