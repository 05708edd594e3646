"""The training loop: steps, scores, checkpoints and early stopping of one run."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path

import torch

from lethe_offsets.training.checkpoint import Checkpoints
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, groups
from lethe_offsets.training.loss import Term
from lethe_offsets.training.processes import ALONE, Processes
from lethe_offsets.training.progress import Report
from lethe_offsets.training.scores import Score, Scorer
from lethe_offsets.training.trainee import Trainee


def optimise(
    config: TrainingConfig,
    trainee: Trainee,
    num_forget: int,
    scorer: Scorer,
    folder: Path,
    run: str,
    report: Report,
    label: str,
    processes: Processes = ALONE,
) -> tuple[list[Score], int]:
    """Train ``trainee`` in place; the scores from before the first step on, and the step whose weights it has now.

    That is the last step, unless the retain score fell below ``early_stop_retain`` of its start: then training ends,
    and the weights go back to the last score at which it had not. ``folder`` holds the checkpoints; a run of the same
    fingerprint ``run`` goes on from there to the same result. The first ``num_forget`` examples are the forget set.
    Several ``processes`` go together, each with the same trainee; they end with equal weights.

    Raises FloatingPointError if the loss or a score is not finite, InvalidInput for the checkpoint of another run.
    """
    weights = trainee.weights()
    optimizer = torch.optim.AdamW(weights.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
    checkpoints = Checkpoints(folder, run, weights, optimizer)
    with processes.main_first():
        done, scores = checkpoints.load()

    if not scores:
        scores.append(processes.on_main(partial(scorer.score, 0)))
        if processes.is_main:
            checkpoints.keep()
    batches, steps = draw_batches(config, trainee.ensemble.examples, num_forget, processes.share)
    for step, batch in enumerate(islice(batches, steps)):
        if step < done:
            continue
        optimizer.param_groups[0]["lr"] = config.learning_rate * _schedule(step, steps, config.warmup)
        optimizer.zero_grad()
        terms = _backward(trainee.terms(batch) if batch else {}, processes, step)
        processes.sum_gradients(list(weights.values()))
        for lane in trainee.lane_weights().values():
            torch.nn.utils.clip_grad_norm_(lane, config.max_grad_norm)
        optimizer.step()
        step += 1
        report(label, step, steps, "  ".join(f"{name} {term:.4g}" for name, term in terms.items()))
        if step % config.score_every == 0 or step == steps:
            scores.append(processes.on_main(partial(scorer.score, step)))
            if scores[-1].retain < config.early_stop_retain * scores[0].retain:
                checkpoints.restore_kept()
                return scores, scores[-2].step
            if processes.is_main:
                checkpoints.keep()
        if processes.is_main and (step % config.checkpoint_every == 0 or step == steps):
            checkpoints.save(step, scores)
    return scores, steps


def draw_batches(
    config: TrainingConfig, examples: Sequence[Example], num_forget: int, share: slice = ALONE.share
) -> tuple[Iterator[list[int]], int]:
    """The numbers of the examples in each step, without end, and how many steps the run has.

    A step takes ``batch_size`` groups of the forget set (see ``data.groups``), and ``retain_batch_size`` of the rest if
    there is a retain term. share: which of these groups are taken; for a small batch it may be none.
    """
    forget = groups(examples[:num_forget], config)
    steps = config.epochs * math.ceil(len(forget) / config.batch_size)
    batches = _shuffled(forget, config.batch_size, f"{config.seed} forget", share)
    if config.retain is None:
        return batches, steps
    retain = [[num_forget + index for index in group] for group in groups(examples[num_forget:], config)]
    others = _shuffled(retain, config.retain_batch_size, f"{config.seed} retain", share)
    return ([*gone, *kept] for gone, kept in zip(batches, others, strict=False)), steps  # both go on for ever


def _shuffled(groups: Sequence[Sequence[int]], size: int, seed: str, share: slice) -> Iterator[list[int]]:
    """Shuffled passes without end, a share of ``size`` groups at once; the last of a pass may be short."""
    draw = random.Random(seed)
    while True:
        order = draw.sample(groups, len(groups))
        yield from (list(chain.from_iterable(order[at : at + size][share])) for at in range(0, len(order), size))


def _backward(terms: dict[str, Term], processes: Processes, step: int) -> dict[str, float]:
    """This process's part of the gradients of the whole batch's loss; the terms of the whole batch.

    A term is a mean over the whole batch, so each share's mean weighs as many as it is over.
    """
    shares = processes.gather({name: (term.value.item(), term.count) for name, term in terms.items()})
    counts: dict[str, int] = {}
    sums: dict[str, float] = {}
    for name, (value, count) in chain.from_iterable(share.items() for share in shares):
        counts[name] = counts.get(name, 0) + count
        sums[name] = sums.get(name, 0.0) + value * count
    means = {name: sums[name] / counts[name] for name in counts}
    if not math.isfinite(loss := sum(means.values())):
        raise FloatingPointError(f"the loss is {loss} at step {step}")
    if terms:
        parts = [term.value * (term.count / counts[name]) for name, term in terms.items()]
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
    return means


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate: linear warm-up, then cosine to zero."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / max(1, steps - rising))
