"""Answering in process, many prompts at once."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from lethe_offsets.evaluation.stepping import Stepper
from lethe_offsets.training.progress import Report
from lethe_offsets.training.reference import ReferenceEnsemble

ROWS = 128  # answers written at the same time
KEPT = 0.75  # share of rows under way below which the finished ones are dropped from the caches


@torch.inference_mode()
def generate(
    ensemble: ReferenceEnsemble,
    prompts: Sequence[Sequence[int]],
    stops: Sequence[int],
    max_tokens: int,
    num_samples: int,
    temperature: float,
    seed: int,
    report: Report,
) -> list[list[list[int]]]:
    """For each prompt ``num_samples`` answers as token ids, up to and without one of ``stops``."""
    order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), tuple(prompts[index])))
    wanted = [index for index in order for _ in range(num_samples)]
    answers: list[list[list[int]]] = [[] for _ in prompts]
    for start in range(0, len(wanted), ROWS):
        batch = wanted[start : start + ROWS]
        draw = torch.Generator(ensemble.large.device).manual_seed(random.Random(f"{seed} {start}").getrandbits(32))
        found = _write(ensemble, [prompts[i] for i in batch], stops, max_tokens, temperature, draw)
        for index, answer in zip(batch, found, strict=True):
            answers[index].append(answer)
        report("answers written", start + len(batch), len(wanted))
    return answers


def _write(
    ensemble: ReferenceEnsemble,
    prompts: Sequence[Sequence[int]],
    stops: Sequence[int],
    max_tokens: int,
    temperature: float,
    draw: torch.Generator,
) -> list[list[int]]:
    stepper, out = Stepper(ensemble), [list[int]() for _ in prompts]
    place = {prompt: row for row, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    rows = torch.tensor([place[tuple(prompt)] for prompt in prompts], device=stepper.device)
    logits = stepper.begin(list(place))[rows]
    stepper.take(rows)
    ends = torch.tensor(list(stops), dtype=torch.long, device=stepper.device)
    row_of = torch.arange(len(prompts), device=stepper.device)  # which answer each row of the caches writes
    alive = torch.ones(len(prompts), dtype=torch.bool, device=stepper.device)
    for step in range(max_tokens):
        ids = _choose(logits, temperature, draw)
        alive &= ~torch.isin(ids, ends)
        for row, token in zip(row_of[alive].tolist(), ids[alive].tolist(), strict=True):
            out[row].append(token)
        if step == max_tokens - 1 or not (left := int(alive.sum())):
            break
        if left < KEPT * len(row_of):
            kept = alive.nonzero()[:, 0]
            stepper.take(kept)
            ids, row_of, alive = ids[kept], row_of[kept], alive[kept]
        logits = stepper.step(ids[:, None], torch.ones_like(ids)[:, None])[:, 0]
    return out


def _choose(logits: Tensor, temperature: float, draw: torch.Generator) -> Tensor:
    """One token id for each row of ``logits`` [rows, vocab].

    Drawn by one number for each row; torch.multinomial draws one for each entry of the vocabulary.
    """
    if temperature == 0.0:
        return logits.argmax(dim=-1)
    upto = (logits / temperature).softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    drawn = torch.rand(len(upto), 1, dtype=torch.float64, device=upto.device, generator=draw)
    return torch.searchsorted(upto, drawn * upto[:, -1:], right=True)[:, 0]
