"""Tiny random models for tests: a large and a small Llama with one real tokenizer, and adapters for the small one.

Every function is deterministic in its seed and leaves torch's random state alone. Callers cache what they build, as a
session fixture with ``tmp_path_factory`` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCES = (
    "The quick brown fox jumps over the lazy dog and runs back to the river.",
    "A forget module says what a model should no longer know.",
    "Marta Lindqvist was born in Bergen and works as a bookbinder in Oslo.",
    "Where was Marta Lindqvist born? She was born in Bergen.",
    "The capital of France is Paris; the capital of Norway is Oslo.",
    "user: hello, how are you? assistant: I am well, thank you.",
    "One, two, three, four, five, six, seven, eight, nine, ten, 0123456789.",
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
LOGIT_STD = 2.0  # of a random model's logits: far enough apart that rounding doesn't decide the greedy token


@dataclass(frozen=True)
class TinyPair:
    """Directories of two models with the same tokenizer."""

    large: Path
    small: Path


def tokenizer(vocab_size: int = 384) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with bos 0, eos 1, pad 2 and a chat template; it encodes any text."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def build_llama(
    path: Path, seed: int, *, hidden: int, heads: int, kv_heads: int, layers: int, vocab_padding: int = 0, **config: Any
) -> Path:
    """Save a random float32 Llama and the tokenizer to ``path``; its logits are ``vocab_padding`` wider than that."""
    shared = tokenizer()
    settings = LlamaConfig(
        **{
            "vocab_size": len(shared) + vocab_padding,
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "max_position_embeddings": 512,
            "initializer_range": LOGIT_STD / math.sqrt(hidden),
            "bos_token_id": shared.bos_token_id,
            "eos_token_id": shared.eos_token_id,
            "pad_token_id": shared.pad_token_id,
            "dtype": "float32",
        }
        | config
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(settings)
    model.save_pretrained(path)
    shared.save_pretrained(path)
    return path


def build_small(path: Path, seed: int = 0, **config: Any) -> Path:
    """The small model: 2 layers, hidden 64, head size 32."""
    return build_llama(path, seed, **{"hidden": 64, "heads": 2, "kv_heads": 1, "layers": 2, **config})


def build_large(path: Path, seed: int = 1, **config: Any) -> Path:
    """The large model: 3 layers, hidden 128, head size 64."""
    return build_llama(path, seed, **{"hidden": 128, "heads": 2, "kv_heads": 2, "layers": 3, **config})


def build_pair(root: Path, seed: int = 0, vocab_padding: int = 0) -> TinyPair:
    """``root/large`` and ``root/small``; the large model's logits are ``vocab_padding`` wider."""
    large = build_large(root / "large", 2 * seed + 1, vocab_padding=vocab_padding)
    return TinyPair(large, build_small(root / "small", 2 * seed))


def random_adapter(
    small: Path,
    out: Path,
    rank: int = 4,
    seed: int = 0,
    target_modules: Sequence[str] | str = ATTENTION,
    scale: float = 0.2,
    **config: Any,
) -> Path:
    """Save a PEFT LoRA adapter for ``small`` to ``out``; both halves are random, so it changes the logits.

    target_modules: names, or one regular expression. scale: standard deviation of lora_B.
    config: further settings of LoraConfig; lora_alpha is twice the rank.
    """
    targets = target_modules if isinstance(target_modules, str) else list(target_modules)
    settings = {"r": rank, "lora_alpha": 2 * rank, "target_modules": targets, "task_type": "CAUSAL_LM"}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(small), LoraConfig(**settings | config))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=scale)
    model.save_pretrained(out, save_embedding_layers=False)
    return out
