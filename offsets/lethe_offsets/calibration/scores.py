"""How probable the answers are, under many rules at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lethe_offsets.pair import Rule, RuleRows, apply_rules
from lethe_offsets.recording.file import Recording
from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import LogitsFn, model_logits, pad, passes
from lethe_offsets.training.objectives.rows import token_log_probs
from lethe_offsets.training.progress import Report


@torch.inference_mode()
def grid_scores(
    examples: Sequence[Example],
    large: Recording,
    plus: LogitsFn,
    minus: LogitsFn,
    rules: Sequence[Rule],
    special_ids: Tensor,
    report: Report,
) -> Tensor:
    """Each answer's probability, p ** (1 / tokens), under each rule: [rules, examples]. One pass of both lanes."""
    scores = torch.empty(len(rules), len(examples))
    for done, batch in enumerate(batches := list(passes(examples))):
        chosen = [examples[index] for index in batch]
        ids, mask, predicted = pad(chosen)
        high, low = (lane(ids, mask, predicted).float() for lane in (plus, minus))
        base = large.logits(chosen, low.shape[-1])
        tokens = ids[:, 1:][predicted[:, :-1]]
        for place, rule in enumerate(rules):
            rows = RuleRows.stack([rule]).take(torch.zeros(len(base), dtype=torch.long))
            logprobs = token_log_probs(apply_rules(base, high, low, rows, special_ids), tokens)
            scores[place, batch] = _probabilities(logprobs, chosen)
        report("probabilities of the answers", done + 1, len(batches))
    return scores


@torch.inference_mode()
def reference_scores(examples: Sequence[Example], reference: Recording | PreTrainedModel) -> Tensor:
    """The same for a retrained model: [examples]."""
    if isinstance(reference, Recording):
        return torch.cat([_probabilities(reference.take(e).token_logprobs, [e]) for e in examples])
    model, scores = model_logits(reference), []
    for example in examples:
        ids, mask, predicted = pad([example])
        logprobs = token_log_probs(model(ids, mask, predicted), ids[:, 1:][predicted[:, :-1]])
        scores.append(_probabilities(logprobs, [example]))
    return torch.cat(scores)


def _probabilities(logprobs: Tensor, examples: Sequence[Example]) -> Tensor:
    """From the log-probabilities of all predicted tokens to one number for each example, [examples].

    Where something is to be forgotten, only its tokens count.
    """
    scores = []
    for example, own in zip(examples, torch.split(logprobs, [sum(e.answer) for e in examples]), strict=True):
        units = torch.tensor([u for u, predicted in zip(example.unit, example.answer, strict=True) if predicted])
        counted = own[units >= 0] if bool((units >= 0).any()) else own
        scores.append(counted.mean().exp())
    return torch.stack(scores)
