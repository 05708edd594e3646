"""The shape of a Llama with tied embeddings, and such a model with random weights."""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


class Shape(BaseModel):
    """Of one model, and how it is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden_size: int = Field(description="Width; a multiple of the head size.")
    layers: int = Field(description="Decoder layers.")
    head_size: int = Field(default=64, description="vLLM's CPU attention wants 32 or 64.")
    positions: int = Field(default=512, description="Longest context, in tokens.")
    epochs: int = Field(description="Passes over the data.")
    learning_rate: float = Field(description="Peak, after a warm-up; cosine to zero.")
    weight_decay: float = Field(default=0.1, description="AdamW's.")
    batch_tokens: int = Field(default=1280, description="Tokens a step, padding included.")
    seed: int = Field(default=0, description="Draws the weights and the order.")


def new_model(shape: Shape, words: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A model with random weights, drawn by the shape's seed."""
    heads = shape.hidden_size // shape.head_size
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=shape.hidden_size,
        intermediate_size=11 * shape.hidden_size // 4,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        initializer_range=0.5 / math.sqrt(shape.hidden_size),
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(shape.seed)
        return LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
