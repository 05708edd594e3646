"""How large a model is, by its config alone: its layers are made without memory for their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig

from lethe_offsets.errors import InvalidInput

VOCABULARY_UNIT = 64  # vLLM pads embedding and head to whole multiples
NUM_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # by the names that configs have for it
NUM_USED = ("num_experts_per_tok", "top_k_experts")


@dataclass(frozen=True)
class ModelSize:
    """layers, experts: numbers of weights in the layers, without and of routed experts. share: of the experts, what
    one token uses. embedding, head: numbers of weights; a head tied to the embedding has none of its own. vocabulary:
    logits. linear: sum of inputs and outputs over the layers' linear projections; widest: the largest of these. heads:
    of the queries. kv_values: numbers that one token leaves in the KV cache; kv_split: among how many GPUs these can be
    shared out. attention: products and sums of one token's attention to another. context: tokens. windowed: some layers
    see a window only.
    """

    layers: int
    experts: int
    share: float
    embedding: int
    head: int
    head_weights: int
    vocabulary: int
    linear: int
    widest: int
    heads: int
    kv_values: int
    kv_split: int
    attention: int
    context: int
    windowed: bool

    @property
    def parameters(self) -> int:
        return self.layers + self.experts + self.embedding + self.head

    def touched(self, rows: int) -> float:
        """Weights of the layers that a step of ``rows`` rows reads, with experts drawn evenly."""
        return self.layers + self.experts * (1 - (1 - self.share) ** rows)

    @property
    def used(self) -> float:
        """Weights of the layers that one row is multiplied with."""
        return self.layers + self.experts * self.share


def read_size(field: str, config: PretrainedConfig) -> ModelSize:
    """field: the option that named it. Raises InvalidInput for a model that can't be counted."""
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    except (ValueError, ImportError) as err:
        accepted = "a model that transformers knows as a language model"
        raise InvalidInput(field, config.model_type, f"{accepted} ({str(err).splitlines()[0]})") from err
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    tied = head is embedding
    padding = -config.vocab_size % VOCABULARY_UNIT * config.hidden_size
    in_embedding, in_head = embedding.numel(), 0 if tied else head.numel()
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    heads, kv_values, kv_split, attention = _attention(field, config)
    ends = _linear_ends(model, head)
    return ModelSize(
        layers=sum(sizes.values()) - experts - in_embedding - in_head,
        experts=experts,
        share=_share(config) if experts else 1.0,
        embedding=in_embedding + padding,
        head=0 if tied else in_head + padding,
        head_weights=head.numel() + padding,
        vocabulary=config.vocab_size,
        linear=sum(ends),
        widest=max(ends),
        heads=heads,
        kv_values=kv_values,
        kv_split=kv_split,
        attention=attention,
        context=_context(field, config),
        windowed="sliding_attention" in (getattr(config, "layer_types", None) or ()),
    )


def _linear_ends(model: nn.Module, head: torch.Tensor) -> list[int]:
    """Inputs and outputs of the linear layers, each of which an adapter may change."""
    layers = [each for each in model.modules() if isinstance(each, nn.Linear) and each.weight is not head]
    return [size for layer in layers for size in (layer.in_features, layer.out_features)]


def _context(field: str, config: Any) -> int:
    found = getattr(config, "max_position_embeddings", None)
    if not found:
        raise InvalidInput(field, config.model_type, "a config that names max_position_embeddings")
    return int(found)


def _share(config: Any) -> float:
    """The share of the routed experts that one token uses."""
    counts = [
        next((getattr(config, name) for name in names if hasattr(config, name)), None)
        for names in (NUM_EXPERTS, NUM_USED)
    ]
    return float(counts[1] / counts[0]) if counts[0] and counts[1] else 1.0


def _attention(field: str, config: Any) -> tuple[int, int, int, int]:
    """heads, kv_values, kv_split and attention of ``ModelSize``."""
    kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
    heads, layers = getattr(config, "num_attention_heads", None), config.num_hidden_layers
    if not heads or not kinds <= {"full_attention", "sliding_attention"}:
        raise InvalidInput(field, config.model_type, "a model all of whose layers attend to a KV cache")
    if rank := getattr(config, "kv_lora_rank", None):  # one latent vector for all heads, on every GPU
        return heads, layers * (rank + config.qk_rope_head_dim), 1, 2 * layers * heads * (2 * rank)
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return heads, 2 * layers * kv_heads * size, kv_heads, 4 * layers * heads * size
