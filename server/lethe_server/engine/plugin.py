"""vLLM's entry point ``vllm.general_plugins``: makes the ensemble known in every process that vLLM starts."""

from __future__ import annotations

ARCHITECTURE = "LetheForCausalLM"


def register() -> None:
    """Register the ensemble's class by name only, so that nothing of it is imported before a model is built."""
    from vllm import ModelRegistry

    from lethe_server.engine.orphans import end_with_parent

    end_with_parent()
    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, "lethe_server.engine.ensemble:LetheForCausalLM")
