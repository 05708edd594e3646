"""Contacts with the part of vLLM that loads adapters and applies them, and why each is needed.

As ``compat``: written against 0.32 (CPU), and run on 0.26 too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.config.lora import MaxLoRARanks
from vllm.lora.request import LoRARequest
from vllm.model_executor.layers.linear import LinearBase

from lethe_offsets.errors import InvalidInput
from lethe_server.engine.adapters import AdapterSlots, LayerAdapters


def adapter_rank(rank: int) -> int:
    """The smallest adapter rank vLLM accepts that holds ``rank`` (it knows a fixed list). Raises InvalidInput."""
    accepted = sorted(get_args(MaxLoRARanks))
    for candidate in accepted:
        if candidate >= rank >= 1:
            return int(candidate)
    raise InvalidInput("max_module_rank", rank, f"1 to {accepted[-1]}")


class AdapterNames:
    """Maps an adapter's PEFT names onto the pair: the small model's own renames, then the pair's prefix.

    vLLM asks ``hf_to_vllm_mapper`` for a mapper of renames (``get_unstacked_mapper`` in 0.26) and calls its
    ``_map_name``.
    """

    def __init__(self, small: nn.Module, prefix: str) -> None:
        mapper = getattr(small, "hf_to_vllm_mapper", None)
        renames = getattr(mapper, "get_rename_mapper", None) or getattr(mapper, "get_unstacked_mapper", None)
        self._renames = None if mapper is None or renames is None else renames()
        self._prefix = prefix

    def get_rename_mapper(self) -> AdapterNames:
        return self

    get_unstacked_mapper = get_rename_mapper

    def _map_name(self, name: str) -> str | None:
        renamed = name if self._renames is None else self._renames._map_name(name)
        return None if renamed is None else f"{self._prefix}.{renamed}"


def restrict_adapters(vllm_config: VllmConfig, small: nn.Module, prefix: str) -> None:
    """Confine vLLM's adapters to the pair: its manager wraps the layers whose full names ``target_modules`` holds."""
    if vllm_config.lora_config is not None:
        vllm_config.lora_config.target_modules = [
            f"{prefix}.{name}" for name, module in small.named_modules() if isinstance(module, LinearBase)
        ]


def install_adapter_slots(manager: Any, slots: AdapterSlots) -> None:
    """Put our products in the place of vLLM's per-row kernels, and our storage in the place of its stacked weights."""
    for key in manager.punica_wrapper_mapping:
        manager.punica_wrapper_mapping[key] = slots
    adapters: dict[Any, LayerAdapters] = {}
    total = 0
    for layer in manager.modules.values():
        a_stacked, widths = layer.lora_a_stacked, [b.shape[-2] for b in layer.lora_b_stacked]
        adapters[layer] = LayerAdapters(slots, total, a_stacked[0].shape[-1], widths)
        total += adapters[layer].numel
    slots.weights = torch.zeros(total, dtype=a_stacked[0].dtype, device=a_stacked[0].device)
    for layer, own in adapters.items():
        layer.lora_a_stacked, layer.lora_b_stacked = own.views()
        layer.set_mapping(own)


def adapter_reader(manager: Any, prepared: Callable[[int], Any]) -> Callable[[int, str], Any]:
    """How ``manager`` (a worker's) reads the adapter of an id and a path; any thread may call it.

    From here on the manager takes what ``prepared`` has for an id and reads only where that is None. Relies on
    ``_load_adapter`` changing nothing but what it gives back.
    """
    read = manager._load_adapter

    def load_adapter(request: Any) -> Any:
        found = prepared(request.lora_int_id)
        return read(request) if found is None else found

    manager._load_adapter = load_adapter
    return lambda adapter_id, path: read(LoRARequest(path, adapter_id, path))
