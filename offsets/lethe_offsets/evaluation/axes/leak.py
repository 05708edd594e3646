"""Leak@K: what the best of K sampled answers gives away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import JsonValue

from lethe_offsets.evaluation.axes.asking import Told, judge, present, spread
from lethe_offsets.evaluation.axes.order import expected_best
from lethe_offsets.evaluation.metrics import Result, World
from lethe_offsets.evaluation.sets import Item

AT = (1, 10, 100, 1000)
QUESTIONS = 40  # of a larger forget set, evenly spread: 100 answers to each of TOFU's 400 would take hours


@dataclass(frozen=True, slots=True)
class Leak:
    """Forget questions asked ``num_samples`` times at temperature 1.

    Summary: ``rouge_K`` and ``told_K`` for K = 1, 10, 100 and 1000 up to the number of samples: the mean over
    questions of the expected best of K samples (see ``order.py``) of ROUGE-L recall and of the share of secret parts.
    """

    name: str = "leak"
    group: str = "axes"
    needs: frozenset[str] = frozenset()

    def run(self, world: World) -> Result:
        asked, settings = spread(world.sets.forget, QUESTIONS), world.settings
        replies = world.judged.generate(
            world.prompts(asked),
            settings.max_tokens,
            num_samples=settings.num_samples,
            temperature=1.0,
            seed=settings.seed,
            report=world.report,
        )
        told = [_judge(item, samples) for item, samples in zip(asked, replies, strict=True)]
        best = [best_of(one) for one in told]
        names = dict.fromkeys(name for one in best for name in one)
        summary = {name: fmean(present(one.get(name) for one in best)) for name in names}
        return Result(summary, [_entry(*row) for row in zip(asked, replies, told, best, strict=True)])


def best_of(told: Sequence[Told]) -> dict[str, float]:
    """The expected best of K samples, for each K that there are enough of."""
    scores = {"rouge": [one.rouge for one in told], "told": present(one.told for one in told)}
    return {f"{name}_{k}": expected_best(values, k) for name, values in scores.items() for k in AT if k <= len(values)}


def _entry(item: Item, samples: Sequence[str], told: Sequence[Told], best: dict[str, float]) -> dict[str, JsonValue]:
    """With the sample that tells most."""
    worst = max(zip(told, samples, strict=True), key=lambda pair: (pair[0].told or 0.0, pair[0].rouge))
    found: dict[str, JsonValue] = {"question": item.question, "answer": item.answer, "worst": worst[1]}
    return found | {"distinct": len(set(samples)), **best}


def _judge(item: Item, samples: Sequence[str]) -> list[Told]:
    """Equal samples are judged once."""
    distinct = [*dict.fromkeys(samples)]
    found = dict(zip(distinct, judge([item] * len(distinct), distinct), strict=True))
    return [found[sample] for sample in samples]
