"""A decode step's bytes and operations, and the ratio to plain vLLM that follows.

A model's step takes as long as the slower of memory and arithmetic, and the pair runs after the large model. Launch
gaps, collectives and sampling are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from lethe_server.planning.memory import Pair
from lethe_server.planning.precision import DTYPES
from lethe_server.planning.sizes import ModelSize

FLOAT = 4


@dataclass(frozen=True)
class Device:
    """bandwidth: bytes/s; dense: operations/s in 16 bits, eight: in 8 bits; as published, without sparsity."""

    bandwidth: float
    dense: float
    eight: float


DEVICES = {
    "a100": Device(2.039e12, 312e12, 312e12),
    "l40s": Device(0.864e12, 362e12, 733e12),
    "h100": Device(3.35e12, 989e12, 1979e12),
    "h200": Device(4.8e12, 989e12, 1979e12),
}


def ratio(pair: Pair, rows: int, context: int, device: Device) -> float:
    """Plain vLLM's decode step over Lethe's, for ``rows`` rows of ``context`` tokens each that have all modules."""
    plain = _seconds(pair, pair.large, pair.large_bytes, rows, context, device)
    small = _seconds(pair, pair.small, pair.small_bytes, pair.lanes * rows, context, device, pair.lane_weights)
    rules = (pair.lanes + 2) * rows * pair.large.vocabulary * FLOAT  # all models' logits are read, one is written
    return plain / (plain + small + (pair.adapters + rules) / device.bandwidth)


def _seconds(
    pair: Pair, model: ModelSize, layer_bytes: float, rows: int, context: int, device: Device, weights: int = 1
) -> float:
    """weights: sets of them that are read."""
    number = DTYPES[pair.dtype]
    read = weights * (model.touched(rows) * layer_bytes + model.head_weights * number)
    read += rows * context * model.kv_values * number
    operations = rows * (2 * (model.used + model.head_weights) + model.attention * context)
    return max(read / device.bandwidth, operations / (device.eight if layer_bytes == 1 else device.dense))
