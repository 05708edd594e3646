"""Tiny random models of many families, all with the tokenizer of ``tiny.py``, and modules for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

import tiny
from kit import Kit
from lethe_offsets.create import create_module
from lethe_offsets.pair import Rule

GATED = (*tiny.ATTENTION, *tiny.MLP)
SHARED_TIE = 0.2  # how much smaller an embedding is that is also the head: else every token predicts itself

_GROUPED = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
_SLIDING = {"sliding_window": 16}
_GEMMA = {
    **_GROUPED,
    **_SLIDING,
    "tie_word_embeddings": True,
    "layer_types": ["sliding_attention", "full_attention"],
    "query_pre_attn_scalar": 24,
}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
# Config keys beyond those that all models have; the others come from each family's own defaults.
FAMILIES: Mapping[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "llama_tied": {**_GROUPED, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "qwen2": {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "qwen3": _GROUPED,
    "mistral": {**_GROUPED, **_SLIDING},
    "gemma3_text": {**_GEMMA, "rope_local_base_freq": 100.0},
    "gemma2": {**_GEMMA, "final_logit_softcapping": 4.0, "attn_logit_softcapping": 2.0},
    "phi3": {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1},
    "granite": {
        **_GROUPED,
        "embedding_multiplier": 1.5,
        "residual_multiplier": 0.7,
        "attention_multiplier": 0.2,
        "logits_scaling": 2.0,
    },
    "olmo2": {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2},
    "gpt_neox": {"hidden_size": 64, "num_attention_heads": 2},
    "gpt2": {"n_embd": 64, "n_head": 2},
    "opt": {"hidden_size": 64, "num_attention_heads": 2, "ffn_dim": 96, "word_embed_proj_dim": 64},
    "qwen3_moe": {**_GROUPED, **_EXPERTS},
    "mixtral": {**_GROUPED, **_EXPERTS},
}
ADAPTED: Mapping[str, Iterable[str]] = {
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "gpt_neox": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    "opt": ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
}


def build(path: Path, family: str, seed: int, **config: Any) -> Path:
    """Save a random float32 model of ``family`` and the tokenizer to ``path``.

    Norms and biases are random too, or one that is left out would not be seen.
    """
    shared = tiny.tokenizer()
    shared.unk_token = shared.eos_token  # else the tokenizer class of some families adds one
    settings = AutoConfig.for_model(
        family.removesuffix("_tied"),
        **{
            "vocab_size": len(shared),
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "max_position_embeddings": 512,
            "bos_token_id": shared.bos_token_id,
            "eos_token_id": shared.eos_token_id,
            "pad_token_id": shared.pad_token_id,
            "tie_word_embeddings": False,
            "dtype": "float32",
        }
        | FAMILIES[family]
        | config,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(settings)
        _randomise(model, settings.hidden_size)
    model.save_pretrained(path)
    shared.save_pretrained(path)
    return path


@torch.no_grad()
def _randomise(model: Any, hidden: int) -> None:
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=tiny.LOGIT_STD / math.sqrt(hidden))
        else:
            parameter.add_(0.2 * torch.randn_like(parameter))
    if tied:
        model.get_input_embeddings().weight.mul_(SHARED_TIE)
        last = [module for name, module in model.named_modules() if "norm" in name or "ln_f" in name][-1]
        last.weight.fill_(1 / SHARED_TIE)


def build_kit(root: Path, large: Path, small: Path, family: str, special_ids: tuple[int, ...] = (0, 1, 2)) -> Kit:
    """Three modules of the small model: on plus, on both lanes and on plus with special tokens pinned."""
    modules = {}
    targets = list(ADAPTED.get(family, GATED))
    rules = {"plus": Rule(), "both": Rule(strength=0.5), "pinned": Rule(pin_special=True, clip=3.0)}
    for seed, (name, rule) in enumerate(rules.items()):
        plus = tiny.random_adapter(small, root / f"{name}-plus", rank=4, seed=seed, target_modules=targets)
        minus = tiny.random_adapter(small, root / f"{name}-minus", 2, 9, targets) if name == "both" else None
        modules[name] = create_module(name, small, plus=plus, minus=minus, rule=rule, out=root / name)
    return Kit(large, small, modules, special_ids)
