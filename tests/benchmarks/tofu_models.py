"""A large and a small model that have learned a part of TOFU by heart, trained from nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import pad
from lethe_offsets.training.progress import Report

PAD, EOS = SPECIAL_TOKENS = ("<pad>", "</s>")
VOCABULARY = 4096
BATCH = 16
SHAPES = {  # layers, hidden size, passes over the data
    "large": (3, 192, 30),
    "small": (2, 128, 10),
}


def train_tokenizer(texts: Sequence[str], out: Path) -> None:
    """A byte-level BPE without a chat template: a question and its answer are two lines of text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=PAD, eos_token=EOS).save_pretrained(out)


def pretrain(name: str, examples: Sequence[Example], words: PreTrainedTokenizerFast, out: Path, report: Report) -> None:
    """Train the model of this name on the answers and save it with its tokenizer."""
    layers, hidden, epochs = SHAPES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(words),
                hidden_size=hidden,
                intermediate_size=11 * hidden // 4,
                num_hidden_layers=layers,
                num_attention_heads=hidden // 64,
                num_key_value_heads=hidden // 64,
                max_position_embeddings=512,
                tie_word_embeddings=True,
                initializer_range=0.5 / math.sqrt(hidden),
                bos_token_id=None,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        )
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    draw, steps = random.Random(0), epochs * (len(examples) // BATCH)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = (
            3e-3 * min(1.0, (step + 1) / 30) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        )
        ids, _, predicted = pad(draw.sample(examples, BATCH))
        with torch.autocast("cpu", torch.bfloat16):
            logits = model.lm_head(model.model(ids, use_cache=False).last_hidden_state[predicted])
        loss = F.cross_entropy(logits.float(), ids[:, 1:][predicted[:, :-1]])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        report(f"{name} model", step + 1, steps)
    model.save_pretrained(out)
    words.save_pretrained(out)
