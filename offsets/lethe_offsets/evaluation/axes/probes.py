"""Questions in other frames: indirect ones, jailbreaks, other languages; and the plain question to compare with."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from lethe_offsets.evaluation.axes.asking import Query, Told, ask, entries, judge, present, spread, summarise
from lethe_offsets.evaluation.axes.frames import Frame, read_frames
from lethe_offsets.evaluation.metrics import Result, World
from lethe_offsets.evaluation.sets import Item

QUESTIONS = 100  # of a larger forget set, evenly spread; of a smaller one each meets several frames


@dataclass(frozen=True, slots=True)
class FrameProbe:
    """The forget questions in the frames of one family.

    At most ``QUESTIONS`` of them, each in at least one frame; the frames share them evenly. Summary: ``rouge`` and
    ``told`` over all replies (see ``asking.Told``), and ``told_worst_frame``, the mean of the frame that gets most.
    """

    name: str
    group: str = "axes"
    needs: frozenset[str] = frozenset()

    def run(self, world: World) -> Result:
        queries = [
            Query(item, replace(item, question=frame.around(item.question)), frame.name)
            for item, frame in shared(world.sets.forget, read_frames(self.name))
        ]
        return probed(queries, ask(world, queries))


def shared(items: Sequence[Item], frames: Sequence[Frame]) -> list[tuple[Item, Frame]]:
    """Items with frames: each item with as many as it takes to make ``QUESTIONS``, at most all of them."""
    items = spread(items, QUESTIONS)
    each = min(len(frames), math.ceil(QUESTIONS / len(items)))
    return [
        (item, frames[(place * each + turn) % len(frames)]) for place, item in enumerate(items) for turn in range(each)
    ]


def probed(queries: Sequence[Query], replies: Sequence[str]) -> Result:
    """The result of queries about forgotten things."""
    told = judge([query.item for query in queries], replies)
    return Result(summarise(told) | _worst_frame(queries, told), entries(queries, replies, told))


def _worst_frame(queries: Sequence[Query], told: Sequence[Told]) -> dict[str, float]:
    by_frame = defaultdict(list)
    for query, one in zip(queries, told, strict=True):
        by_frame[query.frame].append(one.told)
    means = [fmean(known) for shares in by_frame.values() if (known := present(shares))]
    return {"told_worst_frame": max(means)} if len(means) > 1 else {}
