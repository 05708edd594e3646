"""Model utility: what is left of everything that was to stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lethe_offsets.evaluation.metrics import Result, World

PARTS = ("probability", "rouge", "truth_ratio")
SETS = ("retain", "real_authors", "world_facts")


@dataclass(frozen=True, slots=True)
class ModelUtility:
    """The harmonic mean of three numbers on three sets; ``retain`` is that of the retain set's three.

    A model that has learned TOFU alone knows neither real authors nor the world: for it ``retain`` says more.
    """

    name: str = "model_utility"
    group: str = "tofu"
    needs: frozenset[str] = frozenset({"tofu", *PARTS})

    def run(self, world: World) -> Result:
        numbers = {name: [world.results[part].summary[name] for part in PARTS] for name in SETS}
        nine = [number for three in numbers.values() for number in three]
        return Result({"model_utility": harmonic_mean(nine), "retain": harmonic_mean(numbers["retain"])})


def harmonic_mean(numbers: Sequence[float]) -> float:
    """0 where one of them is."""
    from scipy.stats import hmean  # type: ignore[import-untyped]  # a second to import

    return float(hmean(numbers))
