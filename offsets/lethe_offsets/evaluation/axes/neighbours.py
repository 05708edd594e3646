"""Neighbours just outside the scope: retain questions that are most like forget questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lethe_offsets.evaluation.axes.asking import Query, ask, entries, judge, summarise
from lethe_offsets.evaluation.axes.text import likeness
from lethe_offsets.evaluation.metrics import Result, World
from lethe_offsets.evaluation.sets import Item

COUNT = 50


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Greedy replies to the retain questions nearest to the forget set, and to those farthest from it.

    Summary: ``rouge`` and ``told`` of the near ones, ``far_rouge`` and ``far_told`` of the far ones: forgetting that
    spills over its scope shows in the first before it shows in the second.
    """

    name: str = "neighbours"
    group: str = "axes"
    needs: frozenset[str] = frozenset({"retain"})

    def run(self, world: World) -> Result:
        near, far = near_and_far(world.sets.forget, world.sets.retain)
        queries = [Query(item, item, "near") for item in near] + [Query(item, item, "far") for item in far]
        replies = ask(world, queries)
        told = judge([query.item for query in queries], replies)
        summary = summarise(told[: len(near)]) | summarise(told[len(near) :], "far_")
        return Result(summary, entries(queries, replies, told))


def near_and_far(forget: Sequence[Item], retain: Sequence[Item], count: int = COUNT) -> tuple[list[Item], list[Item]]:
    """The retain items most and least like any forget item, ``count`` of each, or half of the set where it is small."""
    rows = likeness([item.question for item in retain], [item.question for item in forget])
    nearest = [max(row) for row in rows]
    order = sorted(range(len(retain)), key=lambda place: -nearest[place])
    size = max(1, min(count, len(retain) // 2))
    return [retain[place] for place in order[:size]], [retain[place] for place in order[-size:]]
