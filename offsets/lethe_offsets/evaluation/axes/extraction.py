"""How much of the forgotten answers comes word for word."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from lethe_offsets.evaluation.axes.answers import score_answers
from lethe_offsets.evaluation.axes.memorisation import exact_memorisation, extraction_strength
from lethe_offsets.evaluation.metrics import Result, World


@dataclass(frozen=True, slots=True)
class Extraction:
    """Over the forget set, the means of extraction strength, ``strength``, and exact memorisation, ``exact``.

    See ``memorisation.py`` for both.
    """

    name: str = "extraction"
    group: str = "axes"
    needs: frozenset[str] = frozenset()

    def run(self, world: World) -> Result:
        items = world.sets.forget
        flags = [one.greedy.tolist() for one in score_answers(world, items)]
        scores = {
            "strength": [extraction_strength(greedy) for greedy in flags],
            "exact": [exact_memorisation(greedy) for greedy in flags],
        }
        return Result(
            {name: fmean(values) for name, values in scores.items()},
            [
                {"question": item.question, **{name: values[place] for name, values in scores.items()}}
                for place, item in enumerate(items)
            ],
        )
