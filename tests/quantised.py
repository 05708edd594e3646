"""Tiny quantised checkpoints, and their reference in plain transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

INT8_MAX = 127


def to_int8(source: Path, out: Path, ignore: Sequence[str]) -> Path:
    """A copy of the Llama-like model as compressed-tensors W8A8: a scale per output channel, inputs per token.

    ignore: names of linear layers that stay as they are; the head does in any case.
    """
    out.mkdir(parents=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            (out / file.name).write_bytes(file.read_bytes())
    weights: dict[str, Tensor] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        layer = name.removesuffix(".weight")
        if not layer.endswith("_proj") or layer in ignore:
            weights[name] = tensor
        else:
            scale = tensor.abs().amax(dim=1, keepdim=True) / INT8_MAX
            weights[name] = (tensor / scale).round().to(torch.int8)
            weights[f"{layer}.weight_scale"] = scale
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    config = json.loads((out / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head", *ignore],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"},
                "input_activations": {
                    "num_bits": 8,
                    "type": "int",
                    "symmetric": True,
                    "strategy": "token",
                    "dynamic": True,
                },
            }
        },
    }
    (out / "config.json").write_text(json.dumps(config))
    return out


@torch.no_grad()
def compute_in_int8(model: Any, ignore: Sequence[str]) -> None:
    """Round the weights and, at each call, the inputs of the layers that :func:`to_int8` quantises."""

    def round_inputs(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (_rounded(inputs[0]),)

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and name.endswith("_proj") and name not in ignore:
            layer.weight.copy_(_rounded(layer.weight))
            layer.register_forward_pre_hook(round_inputs)


def _rounded(values: Tensor) -> Tensor:
    scale = values.abs().amax(dim=-1, keepdim=True) / INT8_MAX
    return (values / scale).round() * scale
