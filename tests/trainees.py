"""What the tests of the trainer train: a tiny pair's fixed logits over a few examples, and runs over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

import tiny
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import model_logits, record_logits
from lethe_offsets.training.objectives import NPO
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.reference import load_model
from lethe_offsets.training.sweep import RateResult, rate_folder, train_rates
from lethe_offsets.training.trainee import Material

SPECIAL_IDS = torch.tensor([0, 1, 2])
CONFIG = TrainingConfig(
    objective=NPO(beta=0.5),
    learning_rate=5e-3,
    epochs=6,
    batch_size=1,
    rank=4,
    lora_alpha=8,
    checkpoint_every=4,
    score_every=3,
)


class Interrupted(Exception):
    """Stands for the end of the process."""


def interrupt_at(step: int) -> Report:
    def report(label: str, done: int, total: int, note: str = "") -> None:
        if label != "logits of the data" and done == step:
            raise Interrupted

    return report


def material(
    pair: tiny.TinyPair,
    forget: Sequence[Example],
    retain: Sequence[Example],
    folder: Path,
    report: Report = silent,
) -> Material:
    folder.mkdir(exist_ok=True)
    examples, small = [*forget, *retain], load_model(pair.small)
    large = model_logits(load_model(pair.large))
    fixed = record_logits(examples, large, model_logits(small), folder, torch.float32, report)
    return Material(examples, len(forget), fixed, small, SPECIAL_IDS)


def sweep(
    pair: tiny.TinyPair,
    forget: Sequence[Example],
    retain: Sequence[Example],
    folder: Path,
    config: TrainingConfig = CONFIG,
    rates: Sequence[float] = (),
    report: Report = silent,
) -> list[RateResult]:
    data = material(pair, forget, retain, folder, report)
    return train_rates(config, rates or (config.learning_rate,), data, folder, report=report)


def weights(folder: Path, rate: float = CONFIG.learning_rate, lane: str = "plus") -> dict[str, Tensor]:
    """The adapter that a run with this learning rate left."""
    return load_file(rate_folder(folder, rate) / lane / "adapter_model.safetensors")
