"""The lanes of all modules that answer together as one adapter for the engine, in one slot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lethe_offsets.adapter import SUFFIX_A, SUFFIX_B, LaneAdapter, LoraPair, tensor_name
from lethe_offsets.manifest import Lane
from lethe_offsets.small_model import SmallModelFacts

ROWS: tuple[Lane, ...] = ("minus", "plus")  # in the order of a token's rows, see ``lanes.py``


def fuse_lanes(
    modules: Sequence[Mapping[Lane, LaneAdapter]], out: Path, dtype: torch.dtype = torch.float32
) -> tuple[int, ...]:
    """Write the lanes of each module (keys ``plus``, ``minus``, at least one) as one PEFT adapter to ``out``.

    The ranks of the lanes lie one behind the other, in the order of their rows. Scalings are folded into B, in float32,
    so the adapter's own is 1. dtype: of the file; with the engine's own nothing is left to cast in the engine. Returns
    where each lane's ranks begin and the last one's end, see ``SlotRule``.
    """
    lanes = [module.get(lane) for module in modules for lane in ROWS]
    bounds = tuple(accumulate((lane.rank if lane else 0 for lane in lanes), initial=0))
    layers = sorted({layer for lane in lanes if lane for layer in lane.pairs})
    tensors: dict[str, Tensor] = {}
    for layer in layers:
        pairs = {
            start: lane.pairs[layer] for start, lane in zip(bounds, lanes, strict=False) if lane and layer in lane.pairs
        }
        a, b = _fuse_pairs(pairs, bounds[-1])
        tensors[tensor_name(layer, SUFFIX_A)] = a.to(dtype)
        tensors[tensor_name(layer, SUFFIX_B)] = b.to(dtype)
    rank = bounds[-1]
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
    return bounds


def no_adapter(small: SmallModelFacts) -> dict[Lane, LaneAdapter]:
    """Lanes of a module without an adapter, whose models differ: vLLM tells rows apart by their adapters."""
    layer, (size_out, size_in) = next(iter(small.linears.items()))
    return {"plus": LaneAdapter({layer: LoraPair(torch.zeros(1, size_in), torch.zeros(size_out, 1), 1.0)})}


def _fuse_pairs(pairs: Mapping[int, LoraPair], rank: int) -> tuple[Tensor, Tensor]:
    """A [rank, in] and B [out, rank] of one layer, float32. pairs: by their first rank; all other ranks stay zero."""
    some = next(iter(pairs.values()))
    a, b = torch.zeros(rank, some.a.shape[1]), torch.zeros(some.b.shape[0], rank)
    for start, pair in pairs.items():
        a[start : start + pair.rank] = pair.a.float()
        b[:, start : start + pair.rank] = pair.b.float() * pair.scaling
    return a, b
