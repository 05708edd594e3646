"""Models that know a set of questions by heart and nothing else, trained from nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import Parameter
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from lethe_offsets.pretraining.fit import fit, together
from lethe_offsets.pretraining.shape import Shape, new_model
from lethe_offsets.training.data import Example
from lethe_offsets.training.progress import Report

WARMUP = 50  # steps


def train_model(
    shape: Shape,
    examples: Sequence[Example],
    words: PreTrainedTokenizerFast,
    out: Path,
    device: str,
    label: str,
    report: Report,
) -> None:
    """Train on the answers and save, float32 safetensors with the tokenizer, to ``out``."""
    model = new_model(shape, words).to(device)  # type: ignore[arg-type]
    every = [batch for epoch in range(shape.epochs) for batch in batches(examples, shape, epoch)]
    fit(model, every, new_optimizers(model, shape), WARMUP, label, report)
    model.save_pretrained(out)
    words.save_pretrained(out)


def new_optimizers(model: LlamaForCausalLM, shape: Shape) -> list[torch.optim.Optimizer]:
    """Muon (arXiv 2502.16982) for the layers' matrices, AdamW for embeddings and norms.

    Measured on 800 of TOFU's records, 4.3M parameters: after 12 epochs a loss of 0.01 nats against 1.15 with AdamW
    alone, in 1.5 times its time.
    """
    matrices: list[Parameter] = []
    others: list[Parameter] = []
    for name, weight in model.named_parameters():
        (matrices if weight.ndim == 2 and "embed" not in name else others).append(weight)
    decay, rate = shape.weight_decay, shape.learning_rate
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=decay, ns_steps=4, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=decay)]


def batches(examples: Sequence[Example], shape: Shape, epoch: int) -> list[list[Example]]:
    """Examples of like lengths together, ``batch_tokens`` at once, other ones and in another order each epoch."""
    draw = random.Random(f"{shape.seed} {epoch}")
    found = together(sorted(examples, key=lambda example: (len(example.ids), draw.random())), shape.batch_tokens)
    draw.shuffle(found)
    return found
