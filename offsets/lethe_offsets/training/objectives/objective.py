"""What every training objective has."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from lethe_offsets.manifest import Lane
from lethe_offsets.training.objectives.rows import Rows

RowKind = Literal["forget", "instead", "retain", "contrast"]
"""Which rows of a batch; see ``ensemble.Batch``."""

Trained = Literal["ensemble", "assistant", "lane"]
"""Whose logits an objective sees as ``Rows.ensemble``; see ``ensemble.Ensemble``."""


class Objective(BaseModel):
    """A term of the loss: an equation over the rows that it reads, times ``weight``.

    Called with one ``Rows`` for each kind in ``reads``; the result is a scalar in nats.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reads: ClassVar[tuple[RowKind, ...]]
    bounded: ClassVar[bool] = True  # False: the loss has no minimum, and training never comes to rest
    trained: ClassVar[Trained] = "ensemble"
    lanes: ClassVar[tuple[Lane, ...]] = ("plus",)  # which get an adapter

    weight: float = Field(default=1.0, ge=0.0, description="Factor on this term.")

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """The weighted term, a scalar."""
        return self.weight * self.loss(*args, **kwargs)

    def loss(self, *args: Any, **kwargs: Any) -> Tensor:
        """The equation without its weight; each objective names its rows."""
        raise NotImplementedError

    def count(self, *args: Rows) -> int:
        """How many there are of what ``loss`` is the mean of: rows, unless an objective says otherwise."""
        return len(args[0].tokens)
