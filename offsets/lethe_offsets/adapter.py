"""A lane's adapter: a PEFT LoRA directory, read strictly.

Only plain LoRA on linear layers is accepted, because that is what the engine applies: every setting of PEFT that
changes the result otherwise has to be off, also one that this version of Lethe has never heard of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from lethe_offsets.adapter_config import AdapterConfig
from lethe_offsets.errors import ModuleInvalid
from lethe_offsets.sums import CONFIG_FILE, WEIGHTS_FILE

PREFIX = "base_model.model."
SUFFIX_A, SUFFIX_B = ".lora_A.weight", ".lora_B.weight"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True, eq=False)
class LoraPair:
    """One layer's share: ``W x + scaling * b (a x)`` with a [r, in] and b [out, r] of one float dtype, on the CPU."""

    a: Tensor
    b: Tensor
    scaling: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class LaneAdapter:
    """The adapter of one lane: its pairs by the name of the small model's layer, without PEFT's prefix."""

    pairs: Mapping[str, LoraPair]

    @property
    def rank(self) -> int:
        """The largest rank of any layer."""
        return max(pair.rank for pair in self.pairs.values())

    @property
    def num_parameters(self) -> int:
        return sum(pair.a.numel() + pair.b.numel() for pair in self.pairs.values())

    @classmethod
    def read(cls, directory: Path) -> LaneAdapter:
        """The adapter in ``directory``, a lane of a module or any PEFT directory.

        Raises ModuleInvalid with the file, the setting or tensor, its value and what is accepted.
        """
        files = {name: directory / name for name in (CONFIG_FILE, WEIGHTS_FILE)}
        for name, path in files.items():
            if not path.is_file():
                raise ModuleInvalid(f"{directory.name}/{name}", None, "a PEFT LoRA adapter saved as safetensors")
        config, weights = (path.read_bytes() for path in files.values())
        return cls.from_bytes(config, weights, directory.name)

    @classmethod
    def from_bytes(cls, config: bytes, weights: bytes, where: str) -> LaneAdapter:
        """The adapter in the bytes of its two files; ``where`` begins the field of every ModuleInvalid."""
        settings = AdapterConfig.from_json(config, f"{where}/{CONFIG_FILE}")
        where = f"{where}/{WEIGHTS_FILE}"
        try:
            tensors = load(weights)
        except (SafetensorError, KeyError) as err:  # KeyError: a dtype that torch lacks
            raise ModuleInvalid(where, str(err), "a safetensors file") from err
        if not tensors:
            raise ModuleInvalid(where, "no tensors", "at least one pair of lora_A and lora_B")
        names = sorted({_layer(tensor, where) for tensor in tensors})
        return cls({name: _pair(name, tensors, settings, where) for name in names})


def tensor_name(layer: str, suffix: str) -> str:
    """The name under which PEFT saves one half of a layer's pair."""
    return f"{PREFIX}{layer}{suffix}"


def _layer(tensor: str, where: str) -> str:
    if not (tensor.startswith(PREFIX) and tensor.endswith((SUFFIX_A, SUFFIX_B))):
        accepted = f"only {tensor_name('<layer>', SUFFIX_A)} and {tensor_name('<layer>', SUFFIX_B)}"
        raise ModuleInvalid(f"{where}: tensor", tensor, accepted)
    return tensor.removeprefix(PREFIX).removesuffix(SUFFIX_A).removesuffix(SUFFIX_B)


def _pair(layer: str, tensors: Mapping[str, Tensor], settings: AdapterConfig, where: str) -> LoraPair:
    halves = []
    for suffix in (SUFFIX_A, SUFFIX_B):
        name = tensor_name(layer, suffix)
        if name not in tensors:
            raise ModuleInvalid(f"{where}: {name}", None, "both lora_A and lora_B of every layer")
        halves.append(_checked(tensors[name], f"{where}: {name}"))
    a, b = halves
    rank = settings.rank_of(layer)
    shapes = f"lora_A {list(a.shape)}, lora_B {list(b.shape)}"
    if a.shape[0] != rank or b.shape[1] != rank:
        raise ModuleInvalid(f"{where}: {layer}", shapes, f"lora_A [{rank}, in] and lora_B [out, {rank}]")
    if a.dtype != b.dtype:
        raise ModuleInvalid(f"{where}: {layer}", f"{a.dtype} and {b.dtype}", "one dtype for lora_A and lora_B")
    if not settings.targets(layer):
        raise ModuleInvalid(f"{where}: {layer}", "tensors", f"layers of target_modules {settings.target_modules!r}")
    divisor = math.sqrt(rank) if settings.use_rslora else rank
    return LoraPair(a, b, settings.alpha_of(layer) / divisor)


def _checked(tensor: Tensor, field: str) -> Tensor:
    if tensor.dtype not in DTYPES:
        raise ModuleInvalid(field, str(tensor.dtype), ", ".join(str(dtype) for dtype in DTYPES))
    if tensor.dim() != 2 or not tensor.numel():
        raise ModuleInvalid(field, f"shape {list(tensor.shape)}", "a matrix of a linear layer")
    if not torch.isfinite(tensor).all():
        raise ModuleInvalid(field, "NaN or infinity", "finite numbers")
    return tensor
