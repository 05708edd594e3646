"""Tiny forget modules of one small model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tiny
from lethe_offsets.create import create_module
from lethe_offsets.module import Module


def build_modules(root: Path, names: Iterable[str]) -> dict[str, Module]:
    """Modules with these names, each of other weights, in directories of these names."""
    small = tiny.build_small(root / "small")
    made = {}
    for seed, name in enumerate(names):
        adapter = tiny.random_adapter(small, root / f"{name}-plus", rank=2, seed=seed)
        made[name] = create_module(name, small, plus=adapter, out=root / "modules" / name)
    return made
