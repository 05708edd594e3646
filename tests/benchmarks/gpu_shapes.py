"""Published model shapes, written by hand, so that a run downloads nothing; weights are vLLM's dummy ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Model:
    """A configuration as ``config.json`` holds it. weight_bytes: of one weight of a layer; head and KV are bfloat16."""

    name: str
    architecture: str
    model_type: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    tied: bool = False
    weight_bytes: int = 2
    more: dict[str, Any] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        return {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "hidden_act": "silu",
            "torch_dtype": "bfloat16",
            "eos_token_id": 1,
            **self.more,
        }


@dataclass(frozen=True)
class Pair:
    """goal: least ratio of tokens/s to the large model alone."""

    name: str
    large: Model
    small: Model
    goal: float


LLAMA = ("LlamaForCausalLM", "llama")
FP8 = {"quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
LLAMA_2_13B = Model("Llama-2-13B", *LLAMA, 40, 5120, 40, 40, 128, 13824, 32000)
TINYLLAMA = Model("TinyLlama-1.1B", *LLAMA, 22, 2048, 32, 4, 64, 5632, 32000)
LLAMA_3_70B = Model("Llama-3.1-70B FP8", *LLAMA, 80, 8192, 64, 8, 128, 28672, 128256, weight_bytes=1, more=FP8)
LLAMA_3_1B = Model("Llama-3.2-1B", *LLAMA, 16, 2048, 32, 8, 64, 8192, 128256, tied=True)
# Gemma 3 27B's layers. A published 3B exists for Qwen's vocabulary and none for Gemma's, so it has that vocabulary.
SHAPE_27B = Model("27B (Gemma 3's layers)", "Qwen3ForCausalLM", "qwen3", 62, 5376, 32, 16, 128, 21504, 151936)
QWEN_3B = Model("Qwen2.5-3B", "Qwen2ForCausalLM", "qwen2", 36, 2048, 16, 2, 128, 11008, 151936, tied=True)

PAIRS = {
    "13b": Pair("13b", LLAMA_2_13B, TINYLLAMA, 0.92),
    "70b": Pair("70b", LLAMA_3_70B, LLAMA_3_1B, 0.96),
    "27b": Pair("27b", SHAPE_27B, QWEN_3B, 0.90),
}
TINY = Pair(
    "tiny",
    Model("tiny large", *LLAMA, 3, 128, 2, 1, 64, 256, 512),
    Model("tiny small", *LLAMA, 2, 64, 2, 1, 32, 128, 512, tied=True),
    0.0,
)
