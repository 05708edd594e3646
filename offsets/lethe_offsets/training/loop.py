"""The training loop: steps, scores, checkpoints and early stopping of one run."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor

from lethe_offsets.training.checkpoint import Checkpoints
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, groups
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

    Raises FloatingPointError if the loss or a score is not finite, InvalidInput for the checkpoint of another run.
    """
    weights = trainee.weights()
    optimizer = torch.optim.AdamW(weights.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
    checkpoints = Checkpoints(folder, run, weights, optimizer)
    with processes.main_first():
        done, scores = checkpoints.load()

    def score_and_keep(step: int) -> Score:
        score = scorer.score(step)
        if not scores or score.retain >= config.early_stop_retain * scores[0].retain:
            checkpoints.keep()
        return score

    if not scores:
        scores.append(processes.on_main(partial(score_and_keep, 0)))
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
            scores.append(processes.on_main(partial(score_and_keep, step)))
            if scores[-1].retain < config.early_stop_retain * scores[0].retain:
                checkpoints.restore_kept()
                return scores, scores[-2].step
        if processes.is_main and (step % config.checkpoint_every == 0 or step == steps):
            checkpoints.save(step, scores)
    return scores, steps


def draw_batches(
    config: TrainingConfig, examples: Sequence[Example], num_forget: int
) -> tuple[Iterator[list[int]], int]:
    """The numbers of the examples in each step, without end, and how many steps the run has.

    A step takes ``batch_size`` groups of the forget set (see ``data.groups``), and ``retain_batch_size`` of the rest if
    there is a retain term.
    """
    forget = groups(examples[:num_forget], config)
    steps = config.epochs * math.ceil(len(forget) / config.batch_size)
    batches = _shuffled(forget, config.batch_size, f"{config.seed} forget")
    if config.retain is None:
        return batches, steps
    retain = [[num_forget + index for index in group] for group in groups(examples[num_forget:], config)]
    others = _shuffled(retain, config.retain_batch_size, f"{config.seed} retain")
    return ([*gone, *kept] for gone, kept in zip(batches, others, strict=False)), steps  # both go on for ever


def _shuffled(groups: Sequence[Sequence[int]], size: int, seed: str) -> Iterator[list[int]]:
    """Shuffled passes without end, ``size`` groups at once; the last of a pass may be short."""
    draw = random.Random(seed)
    while True:
        order = draw.sample(groups, len(groups))
        yield from (list(chain.from_iterable(order[at : at + size])) for at in range(0, len(order), size))


def _backward(terms: dict[str, Tensor], step: int) -> None:
    loss = torch.stack(list(terms.values())).sum()
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"the loss is {loss.item()} at step {step}")
    loss.backward()  # type: ignore[no-untyped-call]


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate: linear warm-up, then cosine to zero."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / max(1, steps - rising))
