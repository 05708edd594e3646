"""Several modules as one adapter: each lane of it is that lane's own weight change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftConfig
from safetensors.torch import load_file

import tiny
from kit import Kit
from lethe_offsets.adapter import SUFFIX_A, SUFFIX_B, tensor_name
from lethe_offsets.create import create_module
from lethe_server.engine.fuse import fuse_lanes

NAMES = ("plain", "both", "ranked")  # ranks 4, 8 on plus and 4 on minus, 12


@pytest.mark.parametrize(
    ("names", "bounds"),
    [
        (NAMES[:1], (0, 0, 4)),
        (NAMES[1:2], (0, 4, 12)),
        (NAMES[::2], (0, 0, 4, 4, 16)),
        (NAMES, (0, 0, 4, 8, 16, 16, 28)),
    ],
)
def test_lanes_lie_one_behind_the_other(
    names: tuple[str, ...], bounds: tuple[int, ...], kit: Kit, tmp_path: Path
) -> None:
    modules = [kit.modules[name].adapters() for name in names]
    assert fuse_lanes(modules, tmp_path) == bounds
    assert PeftConfig.from_pretrained(str(tmp_path)).r == bounds[-1]
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    lanes = [module.get(lane) for module in modules for lane in ("minus", "plus")]
    layers = {layer for lane in lanes if lane for layer in lane.pairs}
    assert len(tensors) == 2 * len(layers)
    for layer in layers:
        a, b = tensors[tensor_name(layer, SUFFIX_A)], tensors[tensor_name(layer, SUFFIX_B)]
        for lane, start, end in zip(lanes, bounds, bounds[1:], strict=False):
            change = b[:, start:end] @ a[start:end]
            pair = None if lane is None else lane.pairs.get(layer)
            expected = torch.zeros_like(change) if pair is None else pair.scaling * pair.b.float() @ pair.a.float()
            torch.testing.assert_close(change, expected)


def test_a_layer_that_one_module_lacks_is_zero_there(kit: Kit, tmp_path: Path) -> None:
    narrow = tiny.random_adapter(kit.small, tmp_path / "narrow", rank=2, target_modules=["q_proj"])
    module = create_module("narrow", kit.small, plus=narrow, out=tmp_path / "module")
    bounds = fuse_lanes([module.adapters(), kit.modules["plain"].adapters()], tmp_path / "fused")
    tensors = load_file(tmp_path / "fused" / "adapter_model.safetensors")
    others = [tensor for name, tensor in tensors.items() if name.endswith(SUFFIX_A) and "q_proj" not in name]
    assert others
    assert all(not tensor[: bounds[2]].any() and tensor[bounds[2] :].any() for tensor in others)
