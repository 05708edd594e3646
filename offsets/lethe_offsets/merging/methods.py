"""How one layer's pairs become one: PEFT's arithmetic, layer by layer, and EUL's regression.

The names are those of PEFT's ``add_weighted_adapter``, whose results these are; no base weights are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from peft.utils import merge_utils
from torch import Tensor

from lethe_offsets.adapter import LoraPair
from lethe_offsets.errors import InvalidInput
from lethe_offsets.low_rank import Factors, fold, side_by_side
from lethe_offsets.merging.settings import MergeSettings

Combine = Callable[[list[Tensor], Tensor], Tensor]
"""Tensors of one shape and a weight for each, [n], to one tensor."""


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """One layer: its pair, the squared norm of what was merged, and how much of that the pair's rank left out."""

    pair: LoraPair
    squares: float = 0.0
    lost: float = 0.0


def merge_pairs(settings: MergeSettings, pairs: Sequence[LoraPair], weights: Sequence[float], rank: int) -> Merged:
    """Merge one layer by any method but ``regression``. rank: of the result, for methods that cut.

    ``dare*`` draws from torch's generator. Raises InvalidInput for pairs of several ranks that need one.
    """
    if settings.method in ("cat", "svd"):
        whole = side_by_side([fold(pair, weight) for pair, weight in zip(pairs, weights, strict=True)])
        return Merged(whole) if settings.method == "cat" else cut(Factors.of_pair(whole), rank)
    combine = _combination(settings)
    if settings.truncates:
        deltas = [delta_of(pair) for pair in pairs]
        return cut(Factors.of_matrix(combine(deltas, torch.tensor(weights))), rank)
    ranks = sorted({pair.rank for pair in pairs})
    if len(ranks) > 1:
        accepted = "modules of one rank: this method adds A to A and B to B; cat, svd and *_svd take any"
        raise InvalidInput(f"{settings.method}: ranks", ranks, accepted)
    return Merged(_by_factor(combine, pairs, weights))


def cut(factors: Factors, rank: int) -> Merged:
    """The nearest pair of a rank, and what it leaves."""
    squares = factors.values.double().square()
    return Merged(factors.pair(rank), float(squares.sum()), float(squares[rank:].sum()))


def delta_of(pair: LoraPair) -> Tensor:
    """The weight difference [out, in] that a pair stands for, float32."""
    return pair.scaling * (pair.b.float() @ pair.a.float())


def _combination(settings: MergeSettings) -> Combine:
    combinations: dict[str, Combine] = {
        "linear": merge_utils.task_arithmetic,
        "ties": partial(merge_utils.ties, density=settings.share),
        "dare_linear": partial(merge_utils.dare_linear, density=settings.share),
        "dare_ties": partial(merge_utils.dare_ties, density=settings.share),
    }
    return combinations[settings.method.removesuffix("_svd")]


def _by_factor(combine: Combine, pairs: Sequence[LoraPair], weights: Sequence[float]) -> LoraPair:
    """A from the As and B from the Bs, the root of each weight on either side."""
    factors = torch.tensor([weight * pair.scaling for pair, weight in zip(pairs, weights, strict=True)])
    sides = factors.abs().sqrt()
    a = combine([pair.a.float() for pair in pairs], torch.copysign(sides, factors))
    return LoraPair(a, combine([pair.b.float() for pair in pairs], sides), 1.0)
