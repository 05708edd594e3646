"""Engines without a server, for what is measured inside one process: the large model alone, or with its pair."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lethe_offsets.module import Module
from lethe_server.bench.models import ADAPTER_RANK

TIMER = "lethe_server.bench.timer"


def open_plain(model: str, options: dict[str, Any], timed: bool) -> Any:
    """vLLM's ``LLM``. timed: put the timer into its workers."""
    from vllm import LLM

    extension: dict[str, Any] = {"worker_extension_cls": f"{TIMER}.StepTimer"} if timed else {}
    return LLM(model=model, **extension, **options)


def open_pair(
    model: str, small: str, module: Module, folder: Path, options: dict[str, Any], timed: bool, draft_tokens: int = 0
) -> Any:
    """``LLM`` as Lethe starts it, with one module in it, and the module's LoRARequest. folder: for its adapter."""
    os.environ["VLLM_COMPUTE_NANS_IN_LOGITS"] = "1"  # as the server does; it has its cost
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    from lethe_server.engine.fuse import fuse_lanes
    from lethe_server.engine.service import prepare
    from lethe_server.engine.spec import EngineSpec
    from lethe_server.engine.worker import rule_arguments

    spec = EngineSpec(model, small, "bench", max_module_rank=ADAPTER_RANK, draft_tokens=draft_tokens, options=options)
    prepared = prepare(spec).options
    extension: dict[str, Any] = {"worker_extension_cls": f"{TIMER}.TimedRuleKeeper"} if timed else {}
    engine = LLM(**prepared | extension)
    bounds = fuse_lanes([module.adapters()], folder)
    engine.collective_rpc("lethe_register_rule", args=rule_arguments(1, [module.rule], bounds))
    return engine, LoRARequest(module.ref, 1, str(folder))
