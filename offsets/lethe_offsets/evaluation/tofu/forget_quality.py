"""Forget quality: can the model be told from one that never learned the forget set?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lethe_offsets.evaluation.metrics import Result, World
from lethe_offsets.evaluation.tofu.truth_ratio import GEOMETRIC


@dataclass(frozen=True, slots=True)
class ForgetQuality:
    """The p-value of a two-sample Kolmogorov-Smirnov test on the forget set's truth ratios; statistic: the distance."""

    name: str = "forget_quality"
    group: str = "tofu"
    needs: frozenset[str] = frozenset({"tofu", "truth_ratio", "reference"})

    def run(self, world: World) -> Result:
        return Result(compare(forget_ratios(world.results["truth_ratio"]), world.truth_ratios or ()))


def forget_ratios(truth_ratio: Result) -> list[float]:
    """log of the truth ratios that forget quality compares, of a result of ``TruthRatio``."""
    return [float(str(item[GEOMETRIC])) for item in truth_ratio.items if item["set"] == "forget"]


def compare(ratios: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """The test; the ratios' logarithms give what the ratios would."""
    from scipy.stats import ks_2samp  # type: ignore[import-untyped]  # a second to import

    found = ks_2samp(ratios, reference)
    return {"forget_quality": float(found.pvalue), "statistic": float(found.statistic)}
