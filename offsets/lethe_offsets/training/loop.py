"""Offset unlearning: an adapter on the plus lane, trained on the ensemble's logits.

"Offset Unlearning for Large Language Models" (arXiv 2404.11045): the large model and the minus lane are frozen, and
only their logits are needed, so the large model may sit behind any function of token ids.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModelForCausalLM, TaskType
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.checkpoint import CHECKPOINT_FILE, fingerprint, load_checkpoint, save_checkpoint
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example
from lethe_offsets.training.ensemble import Ensemble
from lethe_offsets.training.logits import LogitsFn, model_logits, record_logits
from lethe_offsets.training.objectives import CrossEntropy
from lethe_offsets.training.progress import Report, silent

ADAPTER_DIR = "adapter"


def train(
    config: TrainingConfig,
    large: LogitsFn,
    small: PreTrainedModel,
    forget: Sequence[Example],
    retain: Sequence[Example],
    special_ids: Tensor,
    folder: Path,
    report: Report = silent,
) -> Path:
    """Train an adapter and return its directory, a PEFT LoRA adapter within ``folder``.

    ``folder`` also holds the cached logits and the checkpoint; called again with the same settings and data, a run
    goes on from there to the same result. ``small`` is wrapped in place: load it again for another use.

    Raises InvalidInput for empty sets or the checkpoint of another run, and FloatingPointError if the loss diverges.
    """
    for role, examples in (("forget", forget), ("retain", retain)):
        if not examples:
            raise InvalidInput(f"{role} set", "nothing", "at least one example")
    folder.mkdir(parents=True, exist_ok=True)
    examples = [*forget, *retain]
    small.train(False)
    fixed = record_logits(examples, large, model_logits(small), folder, getattr(torch, config.cache_dtype), report)
    plus = _add_adapter(config, small)
    ensemble = Ensemble(examples, fixed, model_logits(plus), config.rule, special_ids, small.device)  # type: ignore[arg-type]
    weights = {name: weight for name, weight in plus.named_parameters() if weight.requires_grad}
    _optimise(config, ensemble, weights, len(forget), folder / CHECKPOINT_FILE, report)
    plus.save_pretrained(str(folder / ADAPTER_DIR), save_embedding_layers=False)
    return folder / ADAPTER_DIR


def _optimise(
    config: TrainingConfig,
    ensemble: Ensemble,
    weights: dict[str, Parameter],
    num_forget: int,
    path: Path,
    report: Report,
) -> None:
    run = fingerprint(config, ensemble.examples)
    optimizer = torch.optim.AdamW(weights.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
    done = load_checkpoint(path, run, weights, optimizer)
    steps = config.epochs * math.ceil(num_forget / config.batch_size)
    order = zip(
        _batches(range(num_forget), config.batch_size, f"{config.seed} forget"),
        _batches(range(num_forget, len(ensemble.examples)), config.retain_batch_size, f"{config.seed} retain"),
        strict=False,  # both go on for ever
    )
    begins = torch.tensor(sorted(ensemble.unit_starts()), device=ensemble.device)
    for step, (forget, retain) in zip(range(steps), order, strict=False):
        if step < done:
            continue
        loss = _loss(config, ensemble, [*forget, *retain], begins)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}; lower learning_rate")
        optimizer.param_groups[0]["lr"] = config.learning_rate * _schedule(step, steps, config.warmup)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights.values(), config.max_grad_norm)
        optimizer.step()
        report("forget module", step + 1, steps)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == steps:
            save_checkpoint(path, step + 1, run, weights, optimizer)


def _loss(config: TrainingConfig, ensemble: Ensemble, indices: Sequence[int], begins: Tensor) -> Tensor:
    """The sum of the terms that have rows in this batch."""
    batch = ensemble.batch(indices)
    retain = batch.retain.without(begins) if config.retain_around else batch.retain
    instead = CrossEntropy(weight=config.instead_weight)
    terms = ((config.objective, batch.forget), (instead, batch.taught), (config.retain, retain))
    return torch.stack([term(rows) for term, rows in terms if len(rows.tokens)]).sum()


def _add_adapter(config: TrainingConfig, small: PreTrainedModel) -> PeftModelForCausalLM:
    lora = LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=config.rank, lora_alpha=config.lora_alpha, target_modules="all-linear"
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        plus = PeftModelForCausalLM(small, lora)
    return plus.train(False)  # no dropout anywhere: a resumed run repeats an uninterrupted one


def _batches(indices: range, size: int, seed: str) -> Iterator[list[int]]:
    """Shuffled passes without end; the last batch of a pass may be short."""
    draw = random.Random(seed)
    while True:
        order = draw.sample(indices, len(indices))
        yield from (order[at : at + size] for at in range(0, len(order), size))


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate: linear warm-up, then cosine to zero."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / max(1, steps - rising))
