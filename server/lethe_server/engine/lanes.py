"""One small model, two lanes: every weight is read once for both, one attention call serves both.

Rows come in pairs, a token's minus row and then its plus row. Attention treats every head by itself, so a token's two
rows are one row with twice the heads: a view, and one KV cache that holds both lanes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def pair_rows(values: Tensor, out: Tensor) -> Tensor:
    """Each token's value [n] twice in a row: [2n], written into ``out`` [at least 2n].

    The buffer outlives the step: a captured graph reads its inputs at the addresses it was captured with.
    """
    rows = out[: 2 * values.shape[0]]
    rows.view(-1, 2).copy_(values[:, None])
    return rows


def by_lane(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in pairs [2n, ...] as the minus rows and the plus rows, views of [n, ...]."""
    minus, plus = rows.view(-1, 2, *rows.shape[1:]).unbind(1)
    return minus, plus


class LaneAttention(nn.Module):
    """An attention layer with the heads of both lanes, for rows in pairs."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query, key and value [2n, heads * head size] to [2n, heads * head size]."""
        tokens = query.shape[0] // 2
        both: Tensor = self.attention(*(rows.reshape(tokens, -1) for rows in (query, key, value)))
        return torch.reshape(both, (2 * tokens, -1))


def join_lanes(small: nn.Module, attention: type[nn.Module]) -> None:
    """Wrap the attention layers of ``small``, built with twice their heads.

    attention: the class of vLLM's attention layers. Raises ValueError if the small model has none.
    """
    layers = [name for name, module in small.named_modules() if isinstance(module, attention)]
    if not layers:
        raise ValueError("the small model has no attention layer of vLLM's own; its family is not supported as a pair")
    for name in layers:
        parent_name, _, attribute = name.rpartition(".")
        setattr(small.get_submodule(parent_name), attribute, LaneAttention(small.get_submodule(name)))
