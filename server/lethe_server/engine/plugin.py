"""vLLM's entry point ``vllm.general_plugins``: makes the ensemble known in every process that vLLM starts."""

from __future__ import annotations

ARCHITECTURE = "LetheForCausalLM"


def register() -> None:
    """Register the ensemble's class by name only, so that nothing of it is imported before a model is built."""
    from vllm import ModelRegistry

    from lethe_server.engine.orphans import end_with_parent

    end_with_parent()
    _permit_amx()
    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, "lethe_server.engine.ensemble:LetheForCausalLM")


def _permit_amx() -> None:
    """Ask Linux for the processor's AMX, if it has it, before anything is computed.

    vLLM's attention on the CPU uses it unasked (0.32.0): without compilation, and with models so small that no product
    of oneDNN's has asked before, the worker dies of an illegal instruction. To go when vLLM's worker asks.
    """
    import torch

    torch.cpu._init_amx()
