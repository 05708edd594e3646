"""The forget questions as they are: what the other axes are compared with."""

from __future__ import annotations

from dataclasses import dataclass

from lethe_offsets.evaluation.axes.asking import Query, ask
from lethe_offsets.evaluation.axes.probes import probed
from lethe_offsets.evaluation.metrics import Result, World


@dataclass(frozen=True, slots=True)
class Plain:
    """Greedy replies to the forget questions. Summary: ``rouge`` and ``told``, see ``asking.Told``."""

    name: str = "plain"
    group: str = "axes"
    needs: frozenset[str] = frozenset()

    def run(self, world: World) -> Result:
        queries = [Query(item, item) for item in world.sets.forget]
        return probed(queries, ask(world, queries))
