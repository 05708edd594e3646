"""Relearning: how fast do a few steps of fine-tuning bring the forgotten back?

Sources: "Eight Methods to Evaluate Robust Unlearning in LLMs" (arXiv 2402.16835); "Unlearning or Obfuscating?
Jogging the Memory of Unlearned LLMs via Benign Relearning" (arXiv 2406.13356).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from lethe_offsets.evaluation.axes.pair import adapter_weights, fresh_pair, own_pair
from lethe_offsets.evaluation.local import Local
from lethe_offsets.evaluation.metrics import NotApplicable, Result, World
from lethe_offsets.evaluation.models import Pair
from lethe_offsets.pair import RuleRows, apply_rules
from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import pad

SHOWN = 10  # forget examples that are trained on, at most half of the set
UNSEEN = 40  # others, on which it is measured whether those come back too
STEPS = (0, 1, 2, 5, 10, 20)
LEARNING_RATE = 1e-3


@dataclass(frozen=True, slots=True)
class Relearning:
    """The module's adapters are trained further on ``SHOWN`` forget examples, the large model stays fixed.

    Target and retrained model, which have no pair, get the module's with its adapters set back to nothing, so that
    the same weights learn. Summary, probabilities ``p ** (1 / tokens)``: ``shown_N`` and ``unseen_N`` after N steps of
    AdamW, of the examples trained on and of others. What is suppressed comes back unseen; what was never learned
    doesn't.
    """

    name: str = "relearning"
    group: str = "axes"
    needs: frozenset[str] = frozenset({"module"})

    def run(self, world: World) -> Result:
        judged = own_pair(world) if world.judged.name == "module" else fresh_pair(world)
        if judged.ensemble.rule.mode != "linear":
            raise NotApplicable("a rank rule has no gradient to relearn by")
        order = random.Random(f"{world.settings.seed} relearning").sample(world.sets.forget, len(world.sets.forget))
        size = min(SHOWN, len(order) // 2)
        if not size:
            raise NotApplicable("relearning needs two forget examples, one to train on and one to look at")
        shown, unseen = world.pairs(order[:size]), world.pairs(order[size : size + UNSEEN])
        step, summary = trainer(judged, shown), dict[str, float]()
        for number in range(STEPS[-1] + 1):
            if number:
                step()
            if number in STEPS:
                summary[f"shown_{number}"] = probability(judged, shown)
                summary[f"unseen_{number}"] = probability(judged, unseen)
            world.report("relearning steps", number, STEPS[-1])
        return Result(summary, [{"step": n, **{s: summary[f"{s}_{n}"] for s in ("shown", "unseen")}} for n in STEPS])


def probability(judged: Local, pairs: Sequence[Pair]) -> float:
    """The mean of ``p(y | x) ** (1 / |y|)``."""
    return fmean(one.probability for one in judged.score(pairs))


def trainer(judged: Local, pairs: Sequence[Pair]) -> Callable[[], None]:
    """A step of AdamW on the answers' cross-entropy under the ensemble, all pairs at once; the adapters are trained.

    Raises NotApplicable for lanes without an adapter.
    """
    ensemble = judged.ensemble
    ids, mask, predicted = (part.to(ensemble.large.device) for part in pad([_example(*pair) for pair in pairs]))
    targets = ids[:, 1:][predicted[:, :-1]]
    weights = [weight for lane in (ensemble.plus, ensemble.minus) for weight in adapter_weights(lane)]
    if not weights:
        raise NotApplicable(f"{judged.name} has no adapter to train")
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0)
    rules = RuleRows.stack([ensemble.rule], ids.device).take(torch.zeros_like(targets), all_active=True)

    def rows(model: Module | None) -> Tensor:
        out: Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[predicted]  # type: ignore[misc]
        return out

    with torch.no_grad():
        large = rows(ensemble.large)

    def step() -> None:
        logits = apply_rules(
            large, rows(ensemble.plus), rows(ensemble.minus), rules, ensemble.special_ids.to(ids.device)
        )
        optimizer.zero_grad()
        cross_entropy(logits, targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _example(ask: list[int], answer: list[int]) -> Example:
    return Example((*ask, *answer), (False,) * len(ask) + (True,) * len(answer), ())
