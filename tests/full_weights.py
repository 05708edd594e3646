"""Modules whose lanes have weights of their own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import families
import tiny
from kit import Kit
from lethe_offsets.create import create_module
from lethe_offsets.pair import Rule


def build_kit(root: Path, family: str) -> Kit:
    large = families.build(root / "large", "llama", 1, num_hidden_layers=2)
    small, plus = (families.build(root / name, family, seed) for seed, name in ((2, "minus"), (3, "plus")))
    targets = list(families.ADAPTED.get(family, families.GATED))
    for name in ("on-plus", "on-minus"):
        tiny.random_adapter(small, root / name, 4, 9, targets)
    return build_modules(Kit(large, small, {}, (0, 1, 2)), plus, root / "modules")


def build_modules(kit: Kit, plus: Path, out: Path) -> Kit:
    """A module without an adapter, one with adapters on both lanes, one with an adapter on plus."""
    on_plus, on_minus = (kit.large.parent / name for name in ("on-plus", "on-minus"))
    lanes = {"bare": {}, "both": {"plus": on_plus, "minus": on_minus}, "pinned": {"plus": on_plus}}
    rules = {"bare": Rule(strength=0.7), "both": Rule(strength=0.5), "pinned": Rule(pin_special=True, clip=3.0)}
    modules = {
        name: create_module(name, kit.small, plus_model=plus, rule=rules[name], out=out / name, **own)
        for name, own in lanes.items()
    }
    return dataclasses.replace(kit, modules=modules, plus_model=plus)
