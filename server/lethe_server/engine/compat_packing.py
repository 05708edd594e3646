"""Weights that can be loaded again although code has been compiled for them.

On the CPU vLLM packs each layer's weights for oneDNN, lets go of them, and compiled code knows the packed copy by a
pointer in a tensor (``CPUDNNLGEMMHandler``). Here that tensor gets the pointer of the next packed copy. Elsewhere
unquantised weights stay where they are loaded and nothing is to be done.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import vllm._custom_ops as ops
from torch import nn
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod, VocabParallelEmbedding
from vllm.platforms import current_platform

UNQUANTISED = (UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
PRIMITIVES = 32  # compiled kernels that oneDNN keeps for a layer, as vLLM has it


def keep_replaceable(layer: Any) -> None:
    """Before a layer of vLLM's gets its weights: let them be packed so that they can be replaced."""
    if current_platform.is_cpu() and isinstance(layer.quant_method, UNQUANTISED):
        layer.quant_method.process_weights_after_loading = _pack  # type: ignore[method-assign]


def make_room(model: nn.Module) -> None:
    """Let a model whose layers were made replaceable take weights again, which ``pack`` must follow.

    Raises ValueError for a quantised one: its weights are stored in another form than they are loaded in.
    """
    for name, layer in _layers(model):
        if not isinstance(layer.quant_method, UNQUANTISED):
            raise ValueError(f"{name} is quantised; only a plus lane that is not can be replaced without a restart")
        if current_platform.is_cpu() and not layer.weight.numel():
            layer.weight.data = torch.empty(layer.lethe_shape, dtype=layer.weight.dtype)


def pack(model: nn.Module) -> None:
    for _, layer in _layers(model):
        layer.quant_method.process_weights_after_loading(layer)


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, layer in model.named_modules():
        if isinstance(layer, LinearBase | VocabParallelEmbedding):
            yield name, layer


def _pack(layer: Any) -> None:
    if not ops._supports_onednn:
        layer.cpu_linear = nn.functional.linear
        return
    packed: Any = ops.create_onednn_mm(layer.weight.t(), PRIMITIVES)
    if hasattr(layer, "lethe_packed"):
        held = layer.lethe_packed.handler_tensor
        former = held.clone()
        held.copy_(packed.handler_tensor)
        packed.handler_tensor.copy_(former)  # is released with it
    else:
        layer.lethe_packed = packed
        layer.cpu_linear = lambda x, weight, bias: ops.onednn_mm(packed, x, bias)
    if isinstance(layer.quant_method, UnquantizedLinearMethod):  # an embedding's rows are looked up
        layer.lethe_shape = layer.weight.shape
        layer.weight.data = layer.weight.new_empty(0)
