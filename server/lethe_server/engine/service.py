"""The engine as the server sees it: start, load and unload modules, probe, stop."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lethe_offsets.errors import LetheError
from lethe_offsets.module import Module
from lethe_offsets.small_model import SmallModelFacts
from lethe_server.engine import checks
from lethe_server.engine.fuse import fuse_lanes
from lethe_server.engine.spec import EngineSpec, vllm_options


class EngineStartError(LetheError):
    """vLLM could not start the engine."""


@dataclass(frozen=True)
class LoadedModule:
    """A module in the engine. adapter_id: vLLM's number for it. adapter_path: its lanes as one adapter."""

    module: Module
    adapter_id: int
    adapter_path: str
    seconds: float

    def request(self, name: str) -> Any:
        """vLLM's LoRARequest for this module, under ``name``."""
        from vllm.lora.request import LoRARequest

        return LoRARequest(name, self.adapter_id, self.adapter_path)


def prepare(spec: EngineSpec) -> tuple[dict[str, Any], SmallModelFacts]:
    """Check the models and settle vLLM's options. Raises InvalidInput with what to do instead."""
    checks.check_options(spec)
    large = checks.read_config("model", spec.model, spec.options)
    small = checks.read_config("small_model", spec.small_model, spec.options)
    checks.check_models(large, small, spec)
    tokenizer = checks.read_tokenizer("model", spec.options.get("tokenizer") or spec.model, spec.options)
    small_tokenizer = checks.read_tokenizer("small_model", spec.small_model, spec.options)
    checks.check_tokenizers(tokenizer, small_tokenizer, spec)

    from lethe_server.engine import compat

    rank = compat.adapter_rank(spec.max_module_rank)
    ids = checks.special_ids(large, tokenizer, spec.model)
    pair = checks.pair_config(spec, list(large.architectures or []), ids, rank)
    checks.check_compiler(pair.compile and compat.on_cpu())
    options = vllm_options(spec, pair, compat.shared_context(spec), compat.scheduler_class())
    return options, SmallModelFacts.read(spec.small_model)


class OffsetEngine:
    """A running engine; make one with :meth:`start`."""

    def __init__(self, spec: EngineSpec, client: Any, small: SmallModelFacts) -> None:
        self.spec = spec
        self.client = client
        self.small = small
        self._ids = itertools.count(1)
        self._probes = itertools.count(1)
        self._adapters = Path(tempfile.mkdtemp(prefix="lethe-adapters-"))

    @classmethod
    async def start(cls, spec: EngineSpec) -> OffsetEngine:
        """Raises InvalidInput for models that can't be held together, EngineStartError when vLLM gives up."""
        options, small = await asyncio.to_thread(prepare, spec)
        os.environ["VLLM_COMPUTE_NANS_IN_LOGITS"] = "1"  # how the scheduler learns of unsound rows
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        from lethe_server.engine import compat

        try:
            client = AsyncLLM.from_engine_args(AsyncEngineArgs(**options))
        except (ValueError, RuntimeError, TypeError, OSError) as err:
            raise EngineStartError(f"the engine did not start: {str(err).strip() or type(err).__name__}") from err
        engine = cls(spec, client, small)
        if compat.on_cpu() and checks.compiles(spec.options):
            try:
                await client.collective_rpc("lethe_warm_up")
            except BaseException:
                await asyncio.shield(engine.close())
                raise
        return engine

    async def load(self, module: Module) -> LoadedModule:
        """Bring a module into the engine and prove that it acts.

        Raises ModuleIncompatible when it was made for other models or is too large, ProbeFailed when it has no effect
        or its offset is not finite; the engine is then as before.
        """
        began = time.perf_counter()
        adapters = await asyncio.to_thread(module.adapters)
        checks.check_module(module, adapters, self.small, self.spec.max_module_rank)
        adapter_id = next(self._ids)
        path = self._adapters / f"{adapter_id}-{module.digest.removeprefix('sha256:')[:16]}"
        plus_rank = await asyncio.to_thread(fuse_lanes, adapters, path)
        loaded = LoadedModule(module, adapter_id, str(path), 0.0)
        try:
            await self._admit(loaded, plus_rank)
        except BaseException:
            await asyncio.shield(self.unload(loaded))
            raise
        return LoadedModule(module, adapter_id, str(path), time.perf_counter() - began)

    async def _admit(self, loaded: LoadedModule, plus_rank: int) -> None:
        from lethe_server.engine.worker import rule_arguments

        arguments = rule_arguments(loaded.adapter_id, loaded.module.rule, plus_rank)
        await self.client.collective_rpc("lethe_register_rule", args=arguments)
        await self.client.add_lora(loaded.request(loaded.module.ref))
        await self.probe(loaded)

    async def unload(self, loaded: LoadedModule) -> None:
        """Free the module's slot and memory; no request may be running on it."""
        await self.client.remove_lora(loaded.adapter_id)
        await self.client.collective_rpc("lethe_forget_rule", args=(loaded.adapter_id,))
        await asyncio.to_thread(shutil.rmtree, loaded.adapter_path, ignore_errors=True)

    async def probe(self, loaded: LoadedModule) -> float:
        """The largest change (nats) the module makes to a probe prompt. Raises ProbeFailed when there is none."""
        from lethe_server.engine import probe

        config = self.client.model_config
        prompt = probe.probe_prompt(min(self.small.vocab_size, config.get_vocab_size()), config.max_model_len)
        number = next(self._probes)
        request = loaded.request(loaded.module.ref)
        plain = await probe.prompt_scores(self.client, prompt, None, f"lethe-probe-{number}-plain")
        unlearned = await probe.prompt_scores(self.client, prompt, request, f"lethe-probe-{number}-module")
        return probe.largest_change(plain, unlearned)

    async def check(self) -> None:
        """Raises vLLM's EngineDeadError when the engine died."""
        await self.client.check_health()

    async def close(self) -> None:
        handler = self.client.output_handler
        if handler is not None:  # else vLLM logs the end of its engine as this task's failure
            handler.cancel()
        await asyncio.to_thread(self.client.shutdown)
        await asyncio.to_thread(shutil.rmtree, self._adapters, ignore_errors=True)
