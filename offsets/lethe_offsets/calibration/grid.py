"""The rules that are tried, and which of them is the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lethe_offsets.errors import InvalidInput
from lethe_offsets.manifest import Manifest
from lethe_offsets.pair import MAX_RANK_K, Rule
from lethe_offsets.training.scores import judged

STEPS = 8  # strengths, evenly spaced up to the manifest's highest one
RANKS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class Point:
    """One rule and how it does.

    forget, retain: mean probability of the two sets' answers, p ** (1 / tokens) of each as TOFU has it. distance: mean
    difference from the reference's forget answers, in probability; None without a reference.
    """

    rule: Rule
    forget: float
    retain: float
    distance: float | None = None


def grid(
    manifest: Manifest, strengths: Sequence[float] = (), ranks: Sequence[int] = (), gates: Sequence[float] = ()
) -> list[Rule]:
    """The module's rule with each of the ``strengths`` in linear mode, then with each of the ``ranks`` in rank mode.

    With neither: those of a grid for the module's own mode. Each of them under every one of the ``gates``, if there are
    any. Raises InvalidInput beyond the manifest's bounds.
    """
    low, high = manifest.strength_bounds
    if not strengths and not ranks:
        ranks = RANKS if manifest.rule.mode == "rank" else ()
        strengths = () if ranks else [high * step / STEPS for step in range(1, STEPS + 1)]
    for strength in strengths:
        if not low <= strength <= high:
            raise InvalidInput("strength", strength, f"{low:g} to {high:g}, the module's bounds")
    for rank_k in ranks:
        if not 1 <= rank_k <= MAX_RANK_K:
            raise InvalidInput("rank_k", rank_k, f"1 to {MAX_RANK_K}")
    for gate in gates:
        if not 0.0 <= gate < math.inf:
            raise InvalidInput("gate", gate, "a number of nats, 0 for no gate")
    rules = [replace(manifest.rule, mode="linear", strength=strength) for strength in strengths]
    rules += [replace(manifest.rule, mode="rank", rank_k=rank_k) for rank_k in ranks]
    return [replace(rule, gate=gate) for rule in rules for gate in gates] if gates else rules


def choose(points: Sequence[Point], before: Point, max_retain_loss: float) -> Point:
    """The best point, the first of equal ones; ``before`` is the large model alone.

    With a reference: the nearest to its forget answers among those that keep all but ``max_retain_loss`` of the retain
    answers' probability; raises InvalidInput when there is none. Without: the largest
    ``min(1, retain / retain before) - forget / forget before``.
    """
    if before.distance is None:
        return max(points, key=lambda point: judged(point.forget / before.forget, point.retain / before.retain))
    kept = [point for point in points if point.retain >= (1.0 - max_retain_loss) * before.retain]
    if not kept:
        least = 1.0 - max(point.retain for point in points) / before.retain
        raise InvalidInput("max_retain_loss", max_retain_loss, f"at least {least:.4f}, the least loss on this grid")
    return min(kept, key=lambda point: point.distance or 0.0)
