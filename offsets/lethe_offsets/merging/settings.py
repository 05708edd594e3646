"""How modules are merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lethe_offsets.errors import InvalidInput

Method = Literal[
    "cat",
    "svd",
    "linear",
    "ties",
    "ties_svd",
    "dare_linear",
    "dare_linear_svd",
    "dare_ties",
    "dare_ties_svd",
    "regression",
]
DEFAULT_DENSITY = 0.5


@dataclass(frozen=True, slots=True)
class MergeSettings:
    """How modules are merged.

    weights: one for each module, 1 unless given; ``regression`` takes none. density: share of the weights that
    ``ties*`` and ``dare*`` keep, 0.5 unless given. rank: of the result, for ``*svd`` and ``regression``; the largest of
    the modules' unless given. seed: draws what ``dare*`` drops.

    Raises InvalidInput for a field that the method has no use for or that is out of bounds.
    """

    method: Method
    weights: tuple[float, ...] | None = None
    density: float | None = None
    rank: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InvalidInput("method", self.method, ", ".join(get_args(Method)))
        if self.weights is not None and self.method == "regression":
            raise InvalidInput("weights", list(self.weights), "none with regression: the inputs weigh the modules")
        if self.density is not None and not (self.sparse and 0.0 < self.density < 1.0):
            raise InvalidInput("density", self.density, "a share between 0 and 1, with ties or dare")
        if self.rank is not None and not (self.truncates and self.rank > 0):
            raise InvalidInput("rank", self.rank, "a positive number, with svd or regression; other ranks follow")

    @property
    def sparse(self) -> bool:
        """Whether small or random weights are dropped first."""
        return self.method.startswith(("ties", "dare"))

    @property
    def share(self) -> float:
        """What ``sparse`` methods keep."""
        return self.density or DEFAULT_DENSITY

    @property
    def truncates(self) -> bool:
        """Whether whole weight differences are merged and cut to a rank."""
        return self.method == "regression" or self.method.endswith("svd")
