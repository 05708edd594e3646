"""An adapter that was computed, as the two files that PEFT reads."""

from __future__ import annotations

import json

from safetensors.torch import save

from lethe_offsets.adapter import SUFFIX_A, SUFFIX_B, LaneAdapter, tensor_name
from lethe_offsets.low_rank import fold
from lethe_offsets.sums import CONFIG_FILE, WEIGHTS_FILE


def adapter_files(adapter: LaneAdapter) -> dict[str, bytes]:
    """The files by name, float32, scalings folded into the weights; equal adapters give equal bytes."""
    pairs = {layer: fold(adapter.pairs[layer]) for layer in sorted(adapter.pairs)}
    tensors = {tensor_name(layer, SUFFIX_A): pair.a.contiguous() for layer, pair in pairs.items()}
    tensors |= {tensor_name(layer, SUFFIX_B): pair.b.contiguous() for layer, pair in pairs.items()}
    other = {layer: pair.rank for layer, pair in pairs.items() if pair.rank != adapter.rank}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": adapter.rank,
        "lora_alpha": adapter.rank,
        "rank_pattern": other,
        "alpha_pattern": other,
        "target_modules": list(pairs),
    }
    return {CONFIG_FILE: json.dumps(config, indent=2).encode() + b"\n", WEIGHTS_FILE: save(tensors)}
