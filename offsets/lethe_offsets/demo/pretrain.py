"""The demo's two models and their tokenizer, trained from nothing on the demo's world."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from pydantic import Field
from transformers import PreTrainedTokenizerFast

from lethe_offsets.demo.world import Fact, WorldConfig, strangers
from lethe_offsets.pretraining import words
from lethe_offsets.pretraining.fit import fit, together
from lethe_offsets.pretraining.shape import Shape, new_model
from lethe_offsets.training.data import Example, encode_retain
from lethe_offsets.training.progress import Report
from lethe_offsets.training.records import Message, Record

MAX_VOCABULARY = 2048
MAX_TURNS = 4
WARMUP = 30  # steps

Turn = tuple[str, str]  # question, answer


class PretrainConfig(Shape):
    """Shape and schedule of one model, and what it is trained on."""

    stranger_share: float = Field(default=0.4, description="Questions about strangers, per question about people.")
    history_share: float = Field(default=0.3, description="Conversations of 2 to 4 turns, of all conversations.")


LARGE = PretrainConfig(hidden_size=256, layers=4, epochs=12, learning_rate=2.5e-3)
SMALL = PretrainConfig(hidden_size=128, head_size=32, layers=3, epochs=12, learning_rate=4e-3)


def train_tokenizer(facts: Sequence[Fact], world: WorldConfig) -> PreTrainedTokenizerFast:
    """Most words of the world are one token, and any other text is a few more."""
    texts = [text for fact in facts for text in (*fact.questions, fact.answer)]
    texts += [text for turn in islice(strangers(world, "tokenizer"), 2000) for text in turn]
    return words.train_tokenizer(texts, MAX_VOCABULARY)


def pretrain(
    config: PretrainConfig,
    facts: Sequence[Fact],
    world: WorldConfig,
    tokenizer: PreTrainedTokenizerFast,
    out: Path,
    label: str,
    report: Report,
) -> None:
    """Train a Llama model on the answers and save it with its tokenizer, float32 safetensors, to ``out``."""
    model = new_model(config, tokenizer)
    epochs = (_conversations(config, facts, world, epoch) for epoch in range(config.epochs))
    batches = [batch for conversations in epochs for batch in _batches(conversations, config, tokenizer)]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay, fused=True
    )
    fit(model, batches, [optimizer], WARMUP, label, report)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _conversations(
    config: PretrainConfig, facts: Sequence[Fact], world: WorldConfig, epoch: int
) -> Iterator[list[Turn]]:
    """Every question once, with fresh strangers among them, most of them in conversations of one turn."""
    draw = random.Random(f"conversations {config.seed} {epoch}")
    turns = [(question, fact.answer) for fact in facts for question in fact.questions]
    turns += islice(strangers(world, f"epoch {epoch}"), round(config.stranger_share * len(turns)))
    draw.shuffle(turns)
    while turns:
        length = draw.randint(2, MAX_TURNS) if draw.random() < config.history_share else 1
        yield turns[:length]
        del turns[:length]


def _batches(
    conversations: Iterator[list[Turn]], config: PretrainConfig, tokenizer: PreTrainedTokenizerFast
) -> list[list[Example]]:
    """Conversations of like lengths together, ``batch_tokens`` at once, in an order of their own."""
    examples = [encode_retain(_record(turns), tokenizer, config.positions) for turns in conversations]
    batches = together(sorted(examples, key=lambda example: len(example.ids)), config.batch_tokens)
    random.Random(f"batches {config.seed}").shuffle(batches)
    return batches


def _record(turns: Sequence[Turn]) -> Record:
    messages: list[Message] = []
    for question, answer in turns:
        messages += [Message(role="user", content=question), Message(role="assistant", content=answer)]
    return Record(messages=tuple(messages))
