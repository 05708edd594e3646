"""One small model, two lanes: every weight is read once for both, each lane keeps its own KV cache."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LaneAttention(nn.Module):
    """An attention layer for rows [minus; plus]: the halves go to two layers with a KV cache each."""

    def __init__(self, minus: nn.Module, plus: nn.Module) -> None:
        super().__init__()
        self.minus = minus
        self.plus = plus

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows = query.shape[0] // 2
        minus = self.minus(query[:rows], key[:rows], value[:rows])
        plus = self.plus(query[rows:], key[rows:], value[rows:])
        return torch.cat([minus, plus])


def join_lanes(small: nn.Module, twin: nn.Module, attention: type[nn.Module]) -> None:
    """Give each attention layer of ``small`` (the minus lane) its namesake in ``twin`` as plus lane; the rest of the
    twin is dropped with it.

    attention: the class of vLLM's attention layers. Raises ValueError if the small model has none.
    """
    layers = [name for name, module in small.named_modules() if isinstance(module, attention)]
    if not layers:
        raise ValueError("the small model has no attention layer of vLLM's own; its family is not supported as a pair")
    for name in layers:
        parent_name, _, attribute = name.rpartition(".")
        parent = small.get_submodule(parent_name)
        setattr(parent, attribute, LaneAttention(small.get_submodule(name), twin.get_submodule(name)))
