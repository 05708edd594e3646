"""A large and a small model that have learned a part of TOFU by heart, trained from nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from lethe_offsets.pretraining.fit import fit
from lethe_offsets.pretraining.shape import Shape, new_model
from lethe_offsets.pretraining.words import byte_level_bpe
from lethe_offsets.training.data import Example
from lethe_offsets.training.progress import Report

PAD, EOS = SPECIAL_TOKENS = ("<pad>", "</s>")
VOCABULARY = 4096
BATCH = 16
WARMUP = 30  # steps
SHAPES = {
    "large": Shape(layers=3, hidden_size=192, epochs=30, learning_rate=3e-3),
    "small": Shape(layers=2, hidden_size=128, epochs=10, learning_rate=3e-3),
}


def train_tokenizer(texts: Sequence[str], out: Path) -> None:
    """A byte-level BPE without a chat template: a question and its answer are two lines of text."""
    bpe = byte_level_bpe(texts, VOCABULARY, SPECIAL_TOKENS)
    PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=PAD, eos_token=EOS).save_pretrained(out)


def pretrain(name: str, examples: Sequence[Example], words: PreTrainedTokenizerFast, out: Path, report: Report) -> None:
    """Train the model of this name on the answers and save it with its tokenizer."""
    shape = SHAPES[name]
    model = new_model(shape, words)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=shape.learning_rate, betas=(0.9, 0.95), weight_decay=shape.weight_decay, fused=True
    )
    draw = random.Random(shape.seed)
    batches = [draw.sample(examples, BATCH) for _ in range(shape.epochs * (len(examples) // BATCH))]
    fit(model, batches, [optimizer], WARMUP, f"{name} model", report)
    model.save_pretrained(out)
    words.save_pretrained(out)
