"""A module's lanes as one adapter for the engine: plus ranks first, minus ranks behind them, in one slot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lethe_offsets.adapter import SUFFIX_A, SUFFIX_B, LaneAdapter, LoraPair, tensor_name
from lethe_offsets.manifest import LANES, Lane
from lethe_offsets.small_model import SmallModelFacts


def fuse_lanes(lanes: Mapping[Lane, LaneAdapter], out: Path, dtype: torch.dtype = torch.float32) -> int:
    """Write the lanes (keys ``plus``, ``minus``, at least one) as one PEFT adapter to ``out``.

    Scalings are folded into B, in float32, so the adapter's own is 1. dtype: of the file; with the engine's own nothing
    is left to cast in the engine. Returns the number of plus ranks; the adapter's rank is the
    sum of both.
    """
    ranks = {lane: lanes[lane].rank if lane in lanes else 0 for lane in LANES}
    layers = sorted({layer for adapter in lanes.values() for layer in adapter.pairs})
    tensors: dict[str, Tensor] = {}
    for layer in layers:
        pairs = {lane: adapter.pairs[layer] for lane, adapter in lanes.items() if layer in adapter.pairs}
        a, b = _fuse_pairs(pairs, ranks)
        tensors[tensor_name(layer, SUFFIX_A)] = a.to(dtype)
        tensors[tensor_name(layer, SUFFIX_B)] = b.to(dtype)
    rank = sum(ranks.values())
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted({layer.rpartition(".")[2] for layer in layers}),
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "adapter_model.safetensors")
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2))
    return ranks["plus"]


def no_adapter(small: SmallModelFacts) -> dict[Lane, LaneAdapter]:
    """Lanes of a module without an adapter, whose models differ: vLLM tells rows apart by their adapters."""
    layer, (size_out, size_in) = next(iter(small.linears.items()))
    return {"plus": LaneAdapter({layer: LoraPair(torch.zeros(1, size_in), torch.zeros(size_out, 1), 1.0)})}


def _fuse_pairs(pairs: Mapping[Lane, LoraPair], ranks: Mapping[Lane, int]) -> tuple[Tensor, Tensor]:
    """A [sum of ranks, in] and B [out, sum of ranks] of one layer, float32; a lane without the layer stays zero."""
    some = next(iter(pairs.values()))
    a = torch.zeros(sum(ranks.values()), some.a.shape[1])
    b = torch.zeros(some.b.shape[0], sum(ranks.values()))
    start = 0
    for lane in LANES:
        if lane in pairs:
            pair = pairs[lane]
            a[start : start + pair.rank] = pair.a.float()
            b[:, start : start + pair.rank] = pair.b.float() * pair.scaling
        start += ranks[lane]
    return a, b
