"""Scoring in process: each prompt is read once, however many continuations it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lethe_offsets.evaluation.models import Pair, Scored
from lethe_offsets.evaluation.stepping import Stepper
from lethe_offsets.training.progress import Report
from lethe_offsets.training.reference import ReferenceEnsemble

PASS_TOKENS = 2048  # continuations' tokens in one pass, padding included; on a CPU more of them only leave the caches
PASS_LOGITS = 2**26  # numbers in one model's logits


@torch.inference_mode()
def score(ensemble: ReferenceEnsemble, pairs: Sequence[Pair], whole: bool, report: Report) -> list[Scored]:
    """As ``Judged.score``."""
    found: dict[int, Scored] = {}
    budget = min(PASS_TOKENS, PASS_LOGITS // ensemble.large.config.vocab_size)
    for batch in _batches(pairs, budget):
        scored = _score(Stepper(ensemble), [pairs[index] for index in batch], whole)
        found.update(zip(batch, scored, strict=True))
        report("answers scored", len(found), len(pairs))
    return [found[index] for index in range(len(pairs))]


def _batches(pairs: Sequence[Pair], budget: int) -> Iterator[list[int]]:
    """Indices of pairs, those of one prompt and of like lengths together."""
    longest: dict[tuple[int, ...], int] = {}
    for prompt, rest in pairs:
        longest[tuple(prompt)] = max(longest.get(tuple(prompt), 0), len(rest))
    order = sorted(range(len(pairs)), key=lambda index: (-longest[ids := tuple(pairs[index][0])], ids))
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * longest[tuple(pairs[batch[0]][0])] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _score(stepper: Stepper, pairs: Sequence[Pair], whole: bool) -> list[Scored]:
    prompts = {tuple(prompt): None for prompt, _ in pairs}
    place = {prompt: row for row, prompt in enumerate(prompts)}
    rows = torch.tensor([place[tuple(prompt)] for prompt, _ in pairs], device=stepper.device)
    first = stepper.begin(list(prompts))[rows][:, None]
    stepper.take(rows)
    longest = max(len(rest) for _, rest in pairs)
    ids = torch.tensor([rest + [0] * (longest - len(rest)) for _, rest in pairs], device=stepper.device)
    counted = torch.tensor([[1] * len(rest) + [0] * (longest - len(rest)) for _, rest in pairs], device=stepper.device)
    columns = _measure(first, ids[:, :1], whole)
    if longest > 1:
        further = _measure(stepper.step(ids[:, :-1], counted[:, :-1]), ids[:, 1:], whole)
        columns = [torch.cat(column, dim=1) for column in zip(columns, further, strict=True)]
    found = zip(*(column.cpu() for column in columns), strict=True)
    return [Scored(*(part[: len(rest)].clone() for part in row)) for row, (_, rest) in zip(found, pairs, strict=True)]


def _measure(logits: Tensor, tokens: Tensor, whole: bool) -> list[Tensor]:
    """What a score holds, each [rows, T], from logits [rows, T, vocab] and tokens [rows, T], padding included."""
    logprobs = logits.log_softmax(dim=-1)
    own = logprobs.gather(-1, tokens[..., None])[..., 0]
    columns = [own, own >= logprobs.amax(dim=-1)]
    if whole:
        p = logprobs.exp()
        mean = (p * logprobs).sum(dim=-1)
        spread = (p * (logprobs - mean[..., None]).square()).sum(dim=-1).sqrt()
        columns += [-mean, spread]
    return columns
