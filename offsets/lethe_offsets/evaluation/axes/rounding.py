"""Weights rounded to few bits, as quantised serving would hold them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Linear, Module


def round_rows(weight: Tensor, bits: int) -> Tensor:
    """``weight`` [rows, columns] on a grid of ``2 ** bits - 1`` values, symmetric, up to each row's largest one.

    Round to nearest, in the weight's dtype; a row of zeros stays. Raises ValueError unless 2 <= bits <= 8.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits: got {bits}; accepted: 2 to 8")
    top = 2 ** (bits - 1) - 1
    scale = weight.float().abs().amax(dim=-1, keepdim=True) / top
    steps = torch.where(scale > 0, weight.float() / scale, 0.0).round().clamp(-top, top)
    rounded: Tensor = (steps * scale).to(weight.dtype)
    return rounded


def round_linears(model: Module, bits: int, keep: Module | None = None) -> int:
    """Round the weight of every linear layer in place, adapters' too; returns how many.

    keep: a layer that stays as it is, as quantised serving keeps the head; embeddings always stay.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Linear) and layer is not keep]
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(round_rows(layer.weight, bits))
    return len(layers)
