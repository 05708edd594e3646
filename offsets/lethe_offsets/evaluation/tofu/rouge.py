"""How much of the right answer is in the most probable one: ROUGE-L recall with stems, as TOFU's authors have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

from lethe_offsets.evaluation.metrics import Result, World


@dataclass(frozen=True, slots=True)
class Rouge:
    """Mean recall on each set, in [0, 1]."""

    name: str = "rouge"
    group: str = "tofu"
    needs: frozenset[str] = frozenset()

    def run(self, world: World) -> Result:
        asked = world.sets.asked()
        said = world.answer(world.prompts(item for _, item in asked))
        found = recalls([item.answer for _, item in asked], said)
        items: list[dict[str, JsonValue]] = [
            {"set": name, "question": item.question, "answer": item.answer, "said": text, "value": value}
            for (name, item), text, value in zip(asked, said, found, strict=True)
        ]
        return Result.of_sets(items)


def recalls(answers: Sequence[str], said: Sequence[str]) -> list[float]:
    """For each answer the share of its words that what was said has in the same order."""
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return [float(scorer.score(answer, text)["rougeL"].recall) for answer, text in zip(answers, said, strict=True)]
