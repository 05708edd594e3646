"""Families that can't be held together, by their configs; refused before an engine starts."""

from __future__ import annotations

from transformers import PretrainedConfig

from lethe_offsets.errors import InvalidInput
from lethe_offsets.small_model import SmallModelFacts
from lethe_server.engine.spec import EngineSpec

# Layers with a state instead of a KV cache: vLLM keeps such states for model classes that say so, ours does not.
STATEFUL = frozenset({"linear_attention", "hybrid", "recurrent", "mamba", "conv"})
# vLLM reorders the rows of their query_key_value, but not those of an adapter on it.
REORDERED = frozenset({"bloom", "falcon"})


def check_large_family(name: str, config: PretrainedConfig) -> None:
    """Raises InvalidInput for a large model that vLLM can't run within another."""
    if _layer_types(config) & STATEFUL:
        raise InvalidInput("model", name, f"a model of attention layers only; {config.model_type} has others")


def check_small_family(name: str, config: PretrainedConfig) -> None:
    """Raises InvalidInput for a small model that can't run in two lanes."""
    kind = config.model_type
    if _layer_types(config) & STATEFUL:
        raise InvalidInput("small_model", name, f"a model of attention layers only; {kind} has others")
    if getattr(config, "kv_lora_rank", None) is not None:
        raise InvalidInput("small_model", name, f"a model with keys and values for each head; {kind} has latent ones")
    if kind == "gpt_oss":
        raise InvalidInput("small_model", name, f"a model without attention sinks; {kind} has them")
    if kind in REORDERED:
        raise InvalidInput("small_model", name, f"a model whose adapters fit vLLM's layers; those of {kind} do not")


def check_linear_layers(spec: EngineSpec, small: SmallModelFacts) -> None:
    """Raises InvalidInput for a small model without a layer that an adapter could act on, such as GPT-2."""
    if not small.linears:
        raise InvalidInput("small_model", spec.small_model, "a model with linear layers; this one keeps none as such")


def _layer_types(config: PretrainedConfig) -> set[str]:
    return {*(getattr(config, "layer_types", None) or ()), *(getattr(config, "layers_block_type", None) or ())}
