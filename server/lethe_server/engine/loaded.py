"""What the engine has loaded, and the names it goes by there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lethe_offsets.errors import InvalidInput
from lethe_offsets.module import Module


@dataclass(frozen=True)
class LoadedModule:
    """A module in the engine, or several whose offsets are added, sorted by reference.

    adapter_id: vLLM's number for them. adapter_path: their lanes as one adapter. seconds: how long the load took.
    strength: that of a variant, for every module; None for the modules' own. num_bytes: what the adapter takes in host
    memory, for each worker.
    """

    modules: tuple[Module, ...]
    adapter_id: int
    adapter_path: str
    seconds: float
    strength: float | None = None
    num_bytes: int = 0

    @property
    def ref(self) -> str:
        """The full references, with ``+`` between them."""
        return "+".join(module.ref for module in self.modules)

    @property
    def name(self) -> str:
        """The name that the engine knows it by, another for each variant.

        vLLM holds adapters of one name for the same one within a batch, and keeps prefix caches apart by it.
        """
        return self.ref if self.strength is None else f"{self.ref}*{self.strength!r}"

    def request(self, name: str) -> Any:
        """vLLM's LoRARequest for this module, under ``name``."""
        from vllm.lora.request import LoRARequest

        return LoRARequest(name, self.adapter_id, self.adapter_path)


def check_strength(module: Module, strength: float | None) -> None:
    """Raises InvalidInput for a strength outside of the module's bounds."""
    low, high = module.manifest.strength_bounds
    if strength is not None and not low <= strength <= high:
        raise InvalidInput("strength", strength, f"{low:g} to {high:g}, the bounds of {module.ref}")
