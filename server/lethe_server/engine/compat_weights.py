"""A plus lane with weights of its own: each layer of the small model computes a lane's rows with that lane's weights.

Relies on layers that adapters act on reaching their weights through ``quant_method`` alone, as vLLM's quantisation and
its adapters do; so names, types and adapters of the small model's layers stay as they are. Of all other layers with
weights (norms, learned positions) it relies on the first dimension of every argument being the rows, or on that being
of size one and the second being the rows, as in families that vLLM runs by its Transformers backend (OLMo 2, GPT-NeoX).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

from lethe_server.engine.compat_packing import keep_replaceable
from lethe_server.engine.lanes import by_lane


def join_weights(small: nn.Module, plus: nn.Module) -> None:
    """Let the plus rows of ``small`` be computed with the weights of ``plus``, a model of the same class and shape.

    Raises ValueError for a family with layers that can't be split by rows, such as experts.
    """
    for name, layer in small.named_modules():
        if isinstance(layer, Attention) or next(layer.parameters(recurse=False), None) is None:
            continue
        other = plus.get_submodule(name)
        if isinstance(layer, LinearBase | VocabParallelEmbedding):
            if getattr(layer, "skip_bias_add", False) and layer.bias is not None:
                raise ValueError(f"{name} leaves its bias to others, so a plus lane can't have its own")
            keep_replaceable(other)
            layer.quant_method = LaneWeights(layer.quant_method, other)
        elif getattr(layer, "quant_method", None) is not None:
            raise ValueError(f"{name} is a {type(layer).__name__}, which a plus lane can't have its own weights of")
        else:
            layer.plus_layer = (other,)  # in a tuple: not a part of this layer
            layer.__class__ = _of_both(type(layer))  # type: ignore[arg-type]


class LaneWeights(QuantizeMethodBase):
    """A layer's own way of computing for minus rows, and that of ``plus`` for plus rows.

    Each processes its weights by itself: ``plus`` is a layer of a model of its own.
    """

    def __init__(self, own: QuantizeMethodBase, plus: nn.Module) -> None:
        self.own = own
        self.plus: Any = plus

    def create_weights(self, layer: nn.Module, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("layers are joined when they have their weights")

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        self.own.process_weights_after_loading(layer)

    def apply(self, layer: nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [2n, in] or [1, 2n, in] to the same with out: a token's minus row, then its plus row."""
        dim, (minus, plus) = _row_dim(x), _lanes(x)
        own_bias = None if bias is None else self.plus.bias
        return _rows(self.own.apply(layer, minus, bias), self.plus.quant_method.apply(self.plus, plus, own_bias), dim)

    def embedding(self, layer: nn.Module, ids: Tensor) -> Tensor:
        """ids [2n] or [1, 2n] to the same with hidden behind."""
        dim, (minus, plus) = _row_dim(ids), _lanes(ids)
        return _rows(self.own.embedding(layer, minus), self.plus.quant_method.embedding(self.plus, plus), dim)


@cache
def _of_both(kind: type[nn.Module]) -> type[nn.Module]:
    """A kind of layer whose ``plus_layer`` computes the plus rows of tensors [2n, ...] or [1, 2n, ...]."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        minus, plus = zip(*map(_lanes_or_same, args), strict=True) if args else ((), ())
        pairs = {name: _lanes_or_same(value) for name, value in kwargs.items()}
        own: Callable[..., Any] = kind.forward
        dim = next(_row_dim(value) for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        ours = own(self, *minus, **{name: lanes[0] for name, lanes in pairs.items()})
        theirs = self.plus_layer[0](*plus, **{name: lanes[1] for name, lanes in pairs.items()})
        if isinstance(ours, tuple):
            return tuple(_rows(one, other, dim) for one, other in zip(ours, theirs, strict=True))
        return _rows(ours, theirs, dim)

    return type(f"ByLane{kind.__name__}", (kind,), {"forward": forward})


def _lanes_or_same(value: Any) -> tuple[Any, Any]:
    return _lanes(value) if isinstance(value, Tensor) else (value, value)


def _row_dim(rows: Tensor) -> int:
    """Which dimension of ``rows`` is the rows: they come in pairs, so it isn't one of size one."""
    return int(rows.shape[0] == 1)


def _lanes(rows: Tensor) -> tuple[Tensor, Tensor]:
    """As ``by_lane``, copied: layers of some kinds want their rows one behind the other."""
    minus, plus = by_lane(rows, dim=_row_dim(rows))
    return minus.contiguous(), plus.contiguous()


def _rows(minus: Tensor, plus: Tensor, dim: int) -> Tensor:
    """The reverse of ``by_lane``."""
    return torch.stack([minus, plus], dim=dim + 1).flatten(dim, dim + 1)
