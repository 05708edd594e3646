"""How probable the answers of a sample are, under one model or under a module with several rules."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lethe_offsets.pair import Rule, RuleRows, apply_rules
from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import LogitsFn, pad, passes
from lethe_offsets.training.objectives.rows import token_log_probs


@torch.inference_mode()
def probabilities(
    examples: Sequence[Example],
    large: LogitsFn,
    lanes: tuple[LogitsFn, LogitsFn] | None = None,
    rules: Sequence[Rule] = (Rule(),),
    special_ids: Tensor | None = None,
) -> Tensor:
    """p(answer) ** (1 / its tokens) under each rule: [rules, examples]. lanes: plus and minus; None: ``large`` alone.

    One pass of each model, whatever the number of rules.
    """
    found = torch.empty(len(rules), len(examples))
    pinned = torch.empty(0, dtype=torch.long) if special_ids is None else special_ids
    for batch in passes(examples):
        chosen = [examples[index] for index in batch]
        ids, mask, predicted = pad(chosen)
        tokens, lengths = ids[:, 1:][predicted[:, :-1]], [sum(example.answer) for example in chosen]
        base, *pair = (model(ids, mask, predicted).float().cpu() for model in (large, *(lanes or ())))
        for place, rule in enumerate(rules):
            logits = base
            if pair:
                plus, minus = pair
                rows = RuleRows.stack([rule]).take(torch.zeros(len(base), dtype=torch.long))
                logits = apply_rules(base, plus, minus, rows, pinned)
            means = [own.mean() for own in torch.split(token_log_probs(logits, tokens), lengths)]
            found[place, batch] = torch.stack(means).exp()
    return found
