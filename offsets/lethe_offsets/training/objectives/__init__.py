"""Training objectives, one per file; the unions are the registry, chosen by ``name`` in the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lethe_offsets.training.objectives.cross_entropy import CrossEntropy
from lethe_offsets.training.objectives.kl import KL
from lethe_offsets.training.objectives.npo import NPO
from lethe_offsets.training.objectives.rows import Rows
from lethe_offsets.training.objectives.undial import Undial

ForgetObjective = Annotated[NPO | Undial, Field(discriminator="name")]
RetainObjective = Annotated[KL | CrossEntropy, Field(discriminator="name")]

__all__ = ["KL", "NPO", "CrossEntropy", "ForgetObjective", "RetainObjective", "Rows", "Undial"]
