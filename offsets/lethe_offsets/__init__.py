"""Forget modules: what they are, how they are made, and how their offset is applied.

The names below are for notebooks and scripts. They are imported when first used: the package alone imports nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["Module", "Pair", "ensemble_logits", "load_module", "load_pair"]

if TYPE_CHECKING:
    from lethe_offsets.module import Module
    from lethe_offsets.notebook import Pair, ensemble_logits, load_module, load_pair
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module("lethe_offsets.notebook"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
