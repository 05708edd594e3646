"""One small model, two lanes for each pair: every weight is read once for all, one attention call serves all.

Rows come in pairs, a token's minus row and then its plus row, a pair for each module that one request can have.
Attention treats every head by itself, so a token's rows are one row with so many times the heads: a view, and one KV
cache that holds all lanes.
"""

from __future__ import annotations

from torch import Tensor, nn


def lane_rows(values: Tensor, out: Tensor, lanes: int) -> Tensor:
    """Each token's value [n] once for each lane: [lanes * n], written into ``out`` [at least as long].

    The buffer outlives the step: a captured graph reads its inputs at the addresses it was captured with.
    """
    rows = out[: lanes * values.shape[0]]
    rows.view(-1, lanes).copy_(values[:, None])
    return rows


def by_lane(rows: Tensor, lanes: int = 2, dim: int = 0) -> tuple[Tensor, ...]:
    """Rows [lanes * n, ...] as those of each lane, views of [n, ...]: minus, plus, and so on. dim: that of the rows."""
    return rows.view(*rows.shape[:dim], -1, lanes, *rows.shape[dim + 1 :]).unbind(dim + 1)


class LaneAttention(nn.Module):
    """An attention layer with the heads of all lanes."""

    def __init__(self, attention: nn.Module, lanes: int) -> None:
        super().__init__()
        self.attention = attention
        self.lanes = lanes

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query, key and value [lanes * n, heads * head size] to [lanes * n, heads * head size]."""
        joined: Tensor = self.attention(*(rows.reshape(-1, self.lanes * rows.shape[1]) for rows in (query, key, value)))
        # Not a view of lanes * tokens rows: for all that a compiler knows there can be one less than came in, and it
        # would take the number of heads for an unknown too.
        return joined.as_strided(query.shape, (query.shape[1], 1))


def join_lanes(small: nn.Module, attention: type[nn.Module], lanes: int) -> None:
    """Wrap the attention layers of ``small``, built with the heads of all lanes.

    attention: the class of vLLM's attention layers. Raises ValueError if the small model has none.
    """
    layers = [name for name, module in small.named_modules() if isinstance(module, attention)]
    if not layers:
        raise ValueError("the small model has no attention layer of vLLM's own; its family is not supported as a pair")
    for name in layers:
        parent_name, _, attribute = name.rpartition(".")
        setattr(small.get_submodule(parent_name), attribute, LaneAttention(small.get_submodule(name), lanes))
