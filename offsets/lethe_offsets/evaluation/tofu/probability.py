"""How probable the right answers are.

Of an answer y to x: ``p(y | x) ** (1 / |y|)``, end of turn included. On real authors and world facts: its share of that
of all options, the right one and the perturbed ones. The code of the benchmark's authors has the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from lethe_offsets.evaluation.encode import encode_pair
from lethe_offsets.evaluation.metrics import Result, World
from lethe_offsets.evaluation.models import Pair
from lethe_offsets.evaluation.sets import Item

AMONG_OPTIONS = ("real_authors", "world_facts")


@dataclass(frozen=True, slots=True)
class Probability:
    """Mean probability of each set's answers, in [0, 1]."""

    name: str = "probability"
    group: str = "tofu"
    needs: frozenset[str] = frozenset()

    def run(self, world: World) -> Result:
        asked = world.sets.asked()
        pairs = [_options(world, name, item) for name, item in asked]
        scored = iter(world.score([pair for options in pairs for pair in options]))
        items: list[dict[str, JsonValue]] = []
        for (name, item), options in zip(asked, pairs, strict=True):
            found = [next(scored).probability for _ in options]
            value = found[0] if len(found) == 1 else share(found)
            items.append({"set": name, "question": item.question, "answer": item.answer, "value": value})
        return Result.of_sets(items)


def share(probabilities: Sequence[float]) -> float:
    """The first one's part of the sum; equal parts where all are zero."""
    total = sum(probabilities)
    return probabilities[0] / total if total else 1.0 / len(probabilities)


def _options(world: World, name: str, item: Item) -> list[Pair]:
    wrong = item.perturbed_answers if name in AMONG_OPTIONS else ()
    return [encode_pair(world.judged.tokenizer, item.question, answer, item.before) for answer in (item.answer, *wrong)]
