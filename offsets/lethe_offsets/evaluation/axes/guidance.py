"""Guidance extraction: what someone gets who holds the model before and the model after.

The attack is that of ``guided.py``. An offset server invites it: the difference of its two distributions is the offset
itself. That is why a server gives a client one of them only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from pydantic import JsonValue
from torch import Tensor

from lethe_offsets.evaluation.axes.asking import Query, entries, judge, spread, summarise
from lethe_offsets.evaluation.axes.attacks import auc
from lethe_offsets.evaluation.axes.frames import read_frames
from lethe_offsets.evaluation.axes.guided import guided_logits
from lethe_offsets.evaluation.axes.probes import shared
from lethe_offsets.evaluation.local import Local, plain
from lethe_offsets.evaluation.metrics import NotApplicable, Result, World
from lethe_offsets.evaluation.sets import Item
from lethe_offsets.evaluation.stepping import Stepper
from lethe_offsets.pair import divergence

GUIDANCE = (0.0, 2.0)  # 0: the model before, alone
ITEMS = 100  # of each set
ROWS = 64  # replies written at the same time


@dataclass(frozen=True, slots=True)
class Guidance:
    """Forget questions in indirect frames, answered greedily from both distributions.

    Summary: ``rouge_wN`` and ``told_wN`` with guidance N, where 0 is the model before, and ``rouge`` and ``told`` of
    the model after, alone; ``found``, the AUC by which the largest divergence over a reply tells forget from retain
    questions: whoever holds both sees what was forgotten without knowing it.
    """

    name: str = "guidance"
    group: str = "axes"
    needs: frozenset[str] = frozenset({"pair", "target"})

    def run(self, world: World) -> Result:
        before, after = world.models["target"], world.judged
        if not isinstance(before, Local) or not isinstance(after, Local) or after.ensemble.plus is None:
            raise NotApplicable(f"{after.name} is not the target with a module, in this process")
        queries = [
            Query(item, replace(item, question=frame.around(item.question)), frame.name)
            for item, frame in shared(spread(world.sets.forget, ITEMS), read_frames("indirect"))
        ]
        found = judge([query.item for query in queries], world.answer(world.prompts(q.asked for q in queries)))
        summary, items = summarise(found), list[dict[str, JsonValue]]()
        for w in GUIDANCE:
            replies = extract(world, before, after, [query.asked for query in queries], w)
            told = judge([query.item for query in queries], [reply for reply, _ in replies])
            summary |= {f"{name}_w{w:g}": value for name, value in summarise(told).items()}
            items += [row | {"w": w} for row in entries(queries, [reply for reply, _ in replies], told)]
        return Result(summary | self._found(world, before, after), items)

    def _found(self, world: World, before: Local, after: Local) -> dict[str, float]:
        groups = [spread(items, ITEMS) for items in (world.sets.forget, world.sets.retain) if items]
        if len(groups) < 2:
            return {}
        forget, retain = ([most for _, most in extract(world, before, after, group, 0.0)] for group in groups)
        return {"found": auc(forget, retain), "divergence": fmean(forget), "kept_divergence": fmean(retain)}


def extract(world: World, before: Local, after: Local, items: Sequence[Item], w: float) -> list[tuple[str, float]]:
    """The guided reply to each item's question, and the largest KL(before || after) on its way, nats."""
    prompts = world.prompts(items)
    found: list[tuple[str, float]] = []
    for at in range(0, len(prompts), ROWS):
        ids, most = _extract(before, after, prompts[at : at + ROWS], w, world.settings.max_tokens)
        found += zip([plain(after.tokenizer, reply) for reply in ids], most.tolist(), strict=True)
        world.report(f"guidance {w:g}", len(found), len(prompts))
    return found


@torch.inference_mode()
def _extract(
    before: Local, after: Local, prompts: Sequence[list[int]], w: float, max_tokens: int
) -> tuple[list[list[int]], Tensor]:
    steppers = [Stepper(before.ensemble), Stepper(after.ensemble)]
    stops = after.ensemble.special_ids.to(steppers[0].device)
    logits = [stepper.begin(prompts) for stepper in steppers]
    rows = torch.arange(len(prompts), device=stops.device)  # which reply each row of the caches writes
    most = torch.zeros(len(prompts), device=stops.device)
    out: list[list[int]] = [[] for _ in prompts]
    for _ in range(max_tokens):
        most[rows] = most[rows].maximum(divergence(*logits))
        ids = guided_logits(logits[0], logits[1], w).argmax(-1)
        going = (~torch.isin(ids, stops)).nonzero()[:, 0]
        rows, ids = rows[going], ids[going]
        if not len(rows):
            break
        for row, token in zip(rows.tolist(), ids.tolist(), strict=True):
            out[row].append(token)
        for stepper in steppers:
            stepper.take(going)
        logits = [stepper.step(ids[:, None], torch.ones_like(ids)[:, None])[:, 0] for stepper in steppers]
    return out, most
