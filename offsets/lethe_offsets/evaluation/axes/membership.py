"""Membership inference: can one tell that the forget set was trained on?

Members are the forget set, the others a holdout that no model has seen. Each attack's number is its AUC: 0.5 is
chance and what a model should have that never saw the forget set; near 1 the forget set is known; far below 0.5 it
stands out by being avoided, which tells it as well. The attacks are those of ``attacks.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from lethe_offsets.evaluation.axes import attacks
from lethe_offsets.evaluation.axes.answers import score_answers
from lethe_offsets.evaluation.metrics import Result, World
from lethe_offsets.evaluation.models import Scored
from lethe_offsets.evaluation.sets import Item

Scores = Mapping[str, Sequence[float]]  # by attack, one for each item


@dataclass(frozen=True, slots=True)
class Membership:
    """``loss``, ``zlib`` and ``min_k``."""

    name: str = "membership"
    group: str = "axes"
    needs: frozenset[str] = frozenset({"holdout"})

    def run(self, world: World) -> Result:
        return _told_apart(world, lambda items: _by_logprobs(score_answers(world, items), items))


@dataclass(frozen=True, slots=True)
class MembershipWhole:
    """``min_k_plus_plus``, which needs whole distributions."""

    name: str = "membership_whole"
    group: str = "axes"
    needs: frozenset[str] = frozenset({"holdout", "whole"})

    def run(self, world: World) -> Result:
        def scores(items: Sequence[Item]) -> Scores:
            scored = score_answers(world, items, whole=True)
            return {"min_k_plus_plus": [_z_score(one) for one in scored]}

        return _told_apart(world, scores)


@dataclass(frozen=True, slots=True)
class MembershipReference:
    """``reference``: against the retrained model, which has not seen the forget set."""

    name: str = "membership_reference"
    group: str = "axes"
    needs: frozenset[str] = frozenset({"holdout", "retrained"})

    def run(self, world: World) -> Result:
        def scores(items: Sequence[Item]) -> Scores:
            pairs = zip(score_answers(world, items), score_answers(world, items, by="retrained"), strict=True)
            return {"reference": [attacks.reference_score(own.logprobs, other.logprobs) for own, other in pairs]}

        return _told_apart(world, scores)


def _by_logprobs(scored: Sequence[Scored], items: Sequence[Item]) -> Scores:
    return {
        "loss": [attacks.loss_score(one.logprobs) for one in scored],
        "zlib": [attacks.zlib_score(one.logprobs, item.answer) for one, item in zip(scored, items, strict=True)],
        "min_k": [attacks.min_k_score(one.logprobs) for one in scored],
    }


def _z_score(scored: Scored) -> float:
    if scored.mean is None or scored.std is None:
        raise ValueError("scored: got no mean and std; accepted: a model that gives whole distributions")
    return attacks.min_k_plus_plus_score(scored.logprobs, scored.mean, scored.std)


def _told_apart(world: World, scores: Callable[[Sequence[Item]], Scores]) -> Result:
    """The AUC of each attack, and every item's scores."""
    groups = {True: world.sets.forget, False: world.sets.holdout}
    found = {member: scores(items) for member, items in groups.items()}
    items: list[dict[str, JsonValue]] = [
        {"question": item.question, "member": member, **{name: values[place] for name, values in found[member].items()}}
        for member, group in groups.items()
        for place, item in enumerate(group)
    ]
    return Result({name: attacks.auc(found[True][name], found[False][name]) for name in found[True]}, items)
