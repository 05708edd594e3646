"""Tiny quantised checkpoints, and their reference in plain transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import DynamicCache

INT8_MAX = 127
GROUP = 32  # inputs of a layer that share a scale, of those with 4 bits
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which of eight columns each nibble of an AWQ checkpoint holds, lowest first


def to_int8(source: Path, out: Path, ignore: Sequence[str]) -> Path:
    """A copy of the Llama-like model as compressed-tensors W8A8: a scale per output channel, inputs per token.

    ignore: names of linear layers that stay as they are; the head does in any case.
    """

    def quantise(weight: Tensor) -> dict[str, Tensor]:
        scale = weight.abs().amax(dim=1, keepdim=True) / INT8_MAX
        return {"weight": (weight / scale).round().to(torch.int8), "weight_scale": scale}

    eight_bits = {"num_bits": 8, "type": "int", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**eight_bits, "strategy": "channel"},
        "input_activations": {**eight_bits, "strategy": "token", "dynamic": True},
    }
    config = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head", *ignore],
        "config_groups": {"group_0": group},
    }
    return _save(source, out, ignore, quantise, config)


def to_awq(source: Path, out: Path, ignore: Sequence[str]) -> Path:
    """The same as AWQ: 4 bits with a scale and a zero for each group of inputs."""

    def quantise(weight: Tensor) -> dict[str, Tensor]:
        levels, scales, zeros = _awq(weight)
        packed = {"qweight": _packed(_in_awq_order(levels.flatten(1).T)), "qzeros": _packed(_in_awq_order(zeros.T))}
        return {**packed, "scales": scales.T.half().contiguous()}

    config = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}
    return _save(source, out, ignore, quantise, {**config, "modules_to_not_convert": list(ignore)})


def to_gptq(source: Path, out: Path, ignore: Sequence[str]) -> Path:
    """The same as symmetric GPTQ: 4 bits with a scale for each group of inputs."""

    def quantise(weight: Tensor) -> dict[str, Tensor]:
        levels, scales = _gptq(weight)
        width, size_in = levels.shape[0], weight.shape[1]
        return {
            "qweight": _packed(levels.flatten(1)).T.contiguous(),
            "qzeros": _packed(torch.full((size_in // GROUP, width), 7)),  # this format keeps the zero less one
            "scales": scales.T.half().contiguous(),
            "g_idx": torch.arange(size_in, dtype=torch.int32) // GROUP,
        }

    config = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": True}
    return _save(source, out, ignore, quantise, {**config, "dynamic": {f"-:{layer}": {} for layer in ignore}})


def _save(
    source: Path,
    out: Path,
    ignore: Sequence[str],
    quantise: Callable[[Tensor], dict[str, Tensor]],
    config: dict[str, Any],
) -> Path:
    out.mkdir(parents=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            (out / file.name).write_bytes(file.read_bytes())
    weights: dict[str, Tensor] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        layer = name.removesuffix(".weight")
        quantised = layer.endswith("_proj") and layer not in ignore
        found = quantise(tensor) if quantised else {"weight": tensor}
        weights |= {f"{layer}.{part}" if layer != name else name: value for part, value in found.items()}
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    settings = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**settings, "quantization_config": config}))
    return out


def _awq(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[out, in] to levels [out, groups, GROUP] of 0 to 15, scales and zeros [out, groups].

    Scales are such that bfloat16 holds them.
    """
    groups = weight.unflatten(1, (-1, GROUP))
    low, high = groups.amin(dim=2).clamp_max(0), groups.amax(dim=2).clamp_min(0)
    scales = ((high - low) / 15).bfloat16().float()
    zeros = (-low / scales).round().clamp(0, 15)
    levels = ((groups / scales[..., None]).round() + zeros[..., None]).clamp(0, 15)
    return levels.int(), scales, zeros.int()


def _gptq(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The same with a zero of 8 in every group."""
    groups = weight.unflatten(1, (-1, GROUP))
    scales = (groups.abs().amax(dim=2) / 7).bfloat16().float()
    return ((groups / scales[..., None]).round() + 8).clamp(0, 15).int(), scales


def _in_awq_order(values: Tensor) -> Tensor:
    return values.unflatten(1, (-1, len(AWQ_ORDER)))[..., AWQ_ORDER].flatten(1)


def _packed(levels: Tensor) -> Tensor:
    """Eight levels of a row in one number: [rows, columns] to int32 [rows, columns / 8]."""
    shifts = 4 * torch.arange(8)
    return (levels.long().unflatten(1, (-1, 8)) << shifts).sum(dim=2).to(torch.int32).contiguous()


@torch.no_grad()
def round_to_awq(model: Any, ignore: Sequence[str]) -> None:
    """Give the layers that :func:`to_awq` quantises the weights that it stores."""
    for layer in _quantised_layers(model, ignore):
        levels, scales, zeros = _awq(layer.weight)
        layer.weight.copy_(((levels - zeros[..., None]) * scales[..., None]).flatten(1))


@torch.no_grad()
def round_to_gptq(model: Any, ignore: Sequence[str]) -> None:
    """The same for :func:`to_gptq`."""
    for layer in _quantised_layers(model, ignore):
        levels, scales = _gptq(layer.weight)
        layer.weight.copy_(((levels - 8) * scales[..., None]).flatten(1))


@torch.no_grad()
def compute_in_int8(model: Any, ignore: Sequence[str]) -> None:
    """Round the weights and, at each call, the inputs of the layers that :func:`to_int8` quantises."""

    def round_inputs(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (_rounded(inputs[0]),)

    for layer in _quantised_layers(model, ignore):
        layer.weight.copy_(_rounded(layer.weight))
        layer.register_forward_pre_hook(round_inputs)


def _quantised_layers(model: Any, ignore: Sequence[str]) -> Iterator[Any]:
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and name.endswith("_proj") and name not in ignore:
            yield layer


def _rounded(values: Tensor) -> Tensor:
    scale = values.abs().amax(dim=-1, keepdim=True) / INT8_MAX
    return (values / scale).round() * scale


class Float8Cache(DynamicCache):
    """Keeps keys and values as vLLM's ``fp8_e5m2`` does on the CPU: the upper half of a float16, without a scale."""

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        both: tuple[Tensor, Tensor] = super().update(_cut_off(keys), _cut_off(values), *args, **kwargs)
        return both


def _cut_off(values: Tensor) -> Tensor:
    return (values.half().view(torch.int16) & -256).view(torch.half).to(values.dtype)
