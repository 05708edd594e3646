"""One prompt for something forgotten and something kept: does the one open the other, or take it along?"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from lethe_offsets.evaluation.axes.asking import Query, ask, entries, judge, summarise
from lethe_offsets.evaluation.axes.frames import read_frames
from lethe_offsets.evaluation.axes.probes import probed, shared
from lethe_offsets.evaluation.metrics import Result, World


@dataclass(frozen=True, slots=True)
class Mixed:
    """The forget questions, each beside a retain question.

    Summary: ``rouge``, ``told`` and ``told_worst_frame`` of the forgotten half, ``kept_rouge`` and ``kept_told`` of
    the other.
    """

    name: str = "mixed"
    group: str = "axes"
    needs: frozenset[str] = frozenset({"retain"})

    def run(self, world: World) -> Result:
        draw = random.Random(f"{world.settings.seed} mixed")
        queries, kept = [], []
        for item, frame in shared(world.sets.forget, read_frames(self.name)):
            beside = draw.choice(world.sets.retain)
            asked = replace(item, question=frame.around(item.question, beside.question))
            queries.append(Query(item, asked, frame.name))
            kept.append(Query(beside, asked, frame.name))
        replies = ask(world, queries)
        found = probed(queries, replies)
        also = judge([query.item for query in kept], replies)
        items = [item | {"kept": True} for item in entries(kept, replies, also)]
        return Result(found.summary | summarise(also, "kept_"), [*found.items, *items])
