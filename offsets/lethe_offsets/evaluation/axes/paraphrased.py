"""The forget questions in other words, where a set has them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lethe_offsets.evaluation.axes.asking import Query, ask
from lethe_offsets.evaluation.axes.probes import probed
from lethe_offsets.evaluation.metrics import NotApplicable, Result, World


@dataclass(frozen=True, slots=True)
class Paraphrased:
    """Greedy replies to ``paraphrased_question``, as in TOFU's perturbed files. Summary as for the plain question."""

    name: str = "paraphrased"
    group: str = "axes"
    needs: frozenset[str] = frozenset({"tofu"})

    def run(self, world: World) -> Result:
        queries = [
            Query(item, replace(item, question=item.paraphrased_question), "paraphrased")
            for item in world.sets.forget
            if item.paraphrased_question
        ]
        if not queries:
            raise NotApplicable("the forget set has no paraphrased questions")
        return probed(queries, ask(world, queries))
