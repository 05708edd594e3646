"""Bytes and operations of one decode step, and the ratio that follows from them; written down before measuring.

A model's step takes as long as the slower of memory and arithmetic. Launch gaps and sampling are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpu_shapes import Model, Pair

BF16, FLOAT = 2, 4


@dataclass(frozen=True)
class Device:
    """bandwidth: bytes/s; bf16, fp8: operations/s. The defaults are an H200's as published, without sparsity."""

    bandwidth: float = 4.8e12
    bf16: float = 989e12
    fp8: float = 1979e12


@dataclass(frozen=True)
class Work:
    """Bytes that have to be moved and operations (a multiplication and an addition are two)."""

    weights: float
    cache: float
    operations: float
    operations_per_s: float

    def seconds(self, device: Device) -> float:
        return max((self.weights + self.cache) / device.bandwidth, self.operations / self.operations_per_s)


@dataclass(frozen=True)
class Prediction:
    """Work of a step by part. rules: bytes of the logits that the rules read and write."""

    large: Work
    small: Work
    adapters: float
    rules: float

    def plain_s(self, device: Device) -> float:
        return self.large.seconds(device)

    def lethe_s(self, device: Device) -> float:
        return self.plain_s(device) + self.small.seconds(device) + (self.adapters + self.rules) / device.bandwidth

    def ratio(self, device: Device) -> float:
        return self.plain_s(device) / self.lethe_s(device)


def layer_weights(model: Model) -> int:
    attention = 2 * model.hidden * model.head_size * (model.heads + model.kv_heads)
    return model.layers * (attention + 3 * model.hidden * model.intermediate)


def adapter_weights(model: Model, rank: int) -> int:
    """LoRA on every linear layer: ``rank * (in + out)`` for each."""
    queries, keys = model.heads * model.head_size, model.kv_heads * model.head_size
    attention = 2 * (model.hidden + queries) + 2 * (model.hidden + keys)
    return rank * model.layers * (attention + 3 * (model.hidden + model.intermediate))


def work(model: Model, rows: int, context: int, device: Device) -> Work:
    """A decode step of ``rows`` rows that each see ``context`` tokens; the head is one more layer in bfloat16."""
    head = model.vocabulary * model.hidden
    kv = 2 * model.layers * model.kv_heads * model.head_size * BF16
    attention = 4 * model.layers * model.heads * model.head_size * context
    return Work(
        weights=layer_weights(model) * model.weight_bytes + head * BF16,
        cache=rows * context * kv,
        operations=rows * (2 * (layer_weights(model) + head) + attention),
        operations_per_s=device.fp8 if model.weight_bytes == 1 else device.bf16,
    )


def predict(pair: Pair, rows: int, context: int, slots: int, rank: int, device: Device) -> Prediction:
    """slots, rank: the adapter slots, all of which a step reads. The three logits are read and one is written."""
    return Prediction(
        large=work(pair.large, rows, context, device),
        small=work(pair.small, 2 * rows, context, device),
        adapters=slots * adapter_weights(pair.small, rank) * BF16,
        rules=4 * rows * pair.large.vocabulary * FLOAT,
    )
