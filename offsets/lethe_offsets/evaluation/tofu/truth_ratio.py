"""How much more probable wrong answers are than the right one.

The ratio of an item is the mean of ``p(wrong | x) ** (1 / |wrong|)`` over its perturbed answers, over the same of the
paraphrased answer; over that of the answer itself on real authors and world facts, which have no paraphrase. The forget
set's number is the mean of ``min(ratio, 1 / ratio)``, the others' that of ``max(0, 1 - ratio)``.

Forget quality compares another ratio, in which the perturbed answers have their geometric mean. Both are as in the code
of the benchmark's authors (``utils.py``); the paper has the first one alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import JsonValue

from lethe_offsets.evaluation.encode import encode_pair
from lethe_offsets.evaluation.metrics import Result, World

GEOMETRIC = "log_ratio_geometric"


@dataclass(frozen=True, slots=True)
class TruthRatio:
    """Each set's number; near 1 on the forget set where right and wrong can't be told apart."""

    name: str = "truth_ratio"
    group: str = "tofu"
    needs: frozenset[str] = frozenset({"tofu"})

    def run(self, world: World) -> Result:
        asked = world.sets.asked()
        answers = [(item.paraphrased_answer or item.answer, *item.perturbed_answers) for _, item in asked]
        scored = iter(
            world.score(
                [
                    encode_pair(world.judged.tokenizer, item.question, answer, item.before)
                    for (_, item), options in zip(asked, answers, strict=True)
                    for answer in options
                ]
            )
        )
        items: list[dict[str, JsonValue]] = []
        for (name, item), options in zip(asked, answers, strict=True):
            right, *wrong = (next(scored).mean_logprob for _ in options)
            ratio = log_ratio(right, wrong)
            value = either_way(ratio) if name == "forget" else truth(ratio)
            numbers = {"log_ratio": ratio, GEOMETRIC: fmean(wrong) - right, "value": value}
            items.append({"set": name, "question": item.question, **numbers})
        return Result.of_sets(items)


def log_ratio(right: float, wrong: Sequence[float]) -> float:
    """log of (the mean of exp(wrong) / exp(right)), from log-probabilities for each token."""
    largest = max(wrong)
    return largest + math.log(fmean(math.exp(each - largest) for each in wrong)) - right


def either_way(log_ratio: float) -> float:
    """min(ratio, 1 / ratio)."""
    return math.exp(-abs(log_ratio))


def truth(log_ratio: float) -> float:
    """max(0, 1 - ratio)."""
    return max(0.0, -math.expm1(min(log_ratio, 0.0)))
