"""The engine as the server sees it: start, load and unload modules, probe, stop."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from lethe_offsets.errors import InvalidInput, LetheError
from lethe_offsets.heap import HUGE_PAGES, tunables
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.small_model import SmallModelFacts
from lethe_offsets.sums import WEIGHTS_FILE
from lethe_server.engine import checks, tracing
from lethe_server.engine.data_parallel import ask_workers, end_coordinator_with_us, num_engines
from lethe_server.engine.death import cause_of_death
from lethe_server.engine.families import check_linear_layers
from lethe_server.engine.fuse import fuse_lanes, no_adapter
from lethe_server.engine.loaded import LoadedModule, check_strength
from lethe_server.engine.orphans import end_children_with_us
from lethe_server.engine.reading import Reading
from lethe_server.engine.spec import EngineSpec, vllm_options
from lethe_server.errors import EngineDied

PREPARED_POLL_S = 0.01
DEATH_POLL_S = 0.25
T = TypeVar("T")


class EngineStartError(LetheError):
    """vLLM could not start the engine."""


@dataclass(frozen=True)
class Prepared:
    """options: vLLM's. small, plus: what modules are held against; plus where its lane has weights of its own."""

    options: dict[str, Any]
    small: SmallModelFacts
    plus: SmallModelFacts | None


def prepare(spec: EngineSpec) -> Prepared:
    """Check the models and settle vLLM's options. Raises InvalidInput with what to do instead."""
    checks.check_options(spec)
    large = checks.read_config("model", spec.model, spec.options)
    small = checks.read_config("small_model", spec.small_model, spec.options)
    checks.check_models(large, small, spec)
    tokenizer = checks.read_tokenizer("model", spec.options.get("tokenizer") or spec.model, spec.options)
    small_tokenizer = checks.read_tokenizer("small_model", spec.small_model, spec.options)
    checks.check_tokenizers(tokenizer, small_tokenizer, spec)

    from lethe_server.engine import compat, compat_adapters

    rank = compat_adapters.adapter_rank(spec.max_module_rank)
    ids = checks.special_ids(large, tokenizer, spec.model)
    pair = checks.pair_config(spec, list(large.architectures or []), ids, rank)
    checks.check_layout(large, small, spec, compat.on_cpu())
    checks.check_compiler(pair.compile and compat.on_cpu())
    options = vllm_options(spec, pair, compat.shared_context(spec), compat.scheduler_class())
    facts, plus = SmallModelFacts.read_pair(spec.small_model, spec.plus_model)
    check_linear_layers(spec, facts)
    return Prepared(options, facts, plus)


class OffsetEngine:
    """A running engine; make one with :meth:`start`."""

    def __init__(self, spec: EngineSpec, client: Any, prepared: Prepared) -> None:
        self.spec = spec
        self.client = client
        self.small = prepared.small
        self.plus = prepared.plus
        self._ids = itertools.count(1)
        self._probes = itertools.count(1)
        self._plain: dict[int, list[float]] = {}  # by engine: what the probe's prompts score without a module
        self._adapters = Path(tempfile.mkdtemp(prefix="lethe-adapters-"))

    @classmethod
    async def start(cls, spec: EngineSpec) -> OffsetEngine:
        """Raises InvalidInput for models that can't be held together, EngineStartError when vLLM gives up."""
        prepared = await asyncio.to_thread(prepare, spec)
        os.environ["VLLM_COMPUTE_NANS_IN_LOGITS"] = "1"  # how the scheduler learns of unsound rows
        end_children_with_us()
        end_coordinator_with_us()
        from vllm import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        from lethe_server.engine import compat

        if spec.options.get("otlp_traces_endpoint"):
            tracing.name_modules_in_traces()
        try:
            with tunables(*HUGE_PAGES):
                # vLLM's limits of a step for a server; those of an engine of unknown use are far lower on a GPU.
                client = AsyncLLM.from_engine_args(
                    AsyncEngineArgs(**prepared.options), usage_context=UsageContext.OPENAI_API_SERVER
                )
        except (ValueError, RuntimeError, TypeError, OSError) as err:
            raise EngineStartError(f"the engine did not start: {str(err).strip() or type(err).__name__}") from err
        engine = cls(spec, client, prepared)
        if compat.on_cpu() and checks.compiles(spec.options):
            try:
                await engine._call("lethe_warm_up")
            except BaseException:
                await asyncio.shield(engine.close())
                raise
        return engine

    async def load(self, asked: Module | Sequence[Module], strength: float | None = None) -> LoadedModule:
        """Bring a module into the engine, or several whose offsets are added, and prove that each acts.

        strength: of every module in the place of its own. Raises InvalidInput for one outside of a module's bounds,
        ModuleIncompatible when a module was made for other models, or they are too large or too many, ProbeFailed when
        one has no effect or its offset is not finite; the engine is then as before.
        """
        began = time.perf_counter()
        modules = (asked,) if isinstance(asked, Module) else tuple(sorted(asked, key=lambda module: module.ref))
        adapters = []
        for module in modules:
            check_strength(module, strength)
            adapters.append(await asyncio.to_thread(module.adapters))
            checks.check_module(module, adapters[-1], self.small, self.plus, self.spec.max_module_rank)
        checks.check_sum(adapters, self.spec.max_offsets_per_request, self.spec.max_module_rank)
        adapter_id = next(self._ids)
        path = self._adapters / f"{adapter_id}-{modules[0].digest.removeprefix('sha256:')[:16]}"
        dtype = self.client.vllm_config.lora_config.lora_dtype
        lanes = [each or no_adapter(self.small) for each in adapters]
        bounds = await asyncio.to_thread(fuse_lanes, lanes, path, dtype)
        num_bytes = (path / WEIGHTS_FILE).stat().st_size
        loaded = LoadedModule(modules, adapter_id, str(path), 0.0, strength, num_bytes)
        try:
            await self._admit(loaded, bounds)
        except BaseException:
            await asyncio.shield(self.unload(loaded))
            raise
        return replace(loaded, seconds=time.perf_counter() - began)

    async def _admit(self, loaded: LoadedModule, bounds: Sequence[int]) -> None:
        """Each module is probed by itself, with its own strength and no gate: a variant's strength may be 0, and a gate
        may be closed to what the probe asks.
        """
        rules = [module.rule for module in loaded.modules]
        probed = [replace(rule, gate=0.0) for rule in rules]
        await self._register(loaded.adapter_id, probed, bounds)
        await self._prepare(loaded)
        await self._answered(self.client.add_lora(loaded.request(loaded.name)))
        for place, rule in enumerate(probed):
            if len(probed) > 1:
                alone = [rule if other == place else Rule(strength=0.0) for other in range(len(probed))]
                await self._register(loaded.adapter_id, alone, bounds)
            await self.probe(loaded)
        if loaded.strength is not None:
            rules = [replace(rule, strength=loaded.strength) for rule in rules]
        if len(probed) > 1 or rules != probed:
            await self._register(loaded.adapter_id, rules, bounds)
        await self._call("lethe_count", loaded.adapter_id)

    async def _register(self, adapter_id: int, rules: Sequence[Rule], bounds: Sequence[int]) -> None:
        from lethe_server.engine.worker import rule_arguments

        await self._call("lethe_register_rule", *rule_arguments(adapter_id, rules, bounds))

    async def _prepare(self, loaded: LoadedModule) -> None:
        """Wait until every worker has read the adapter; the engine's loop goes on meanwhile."""
        await self._call("lethe_prepare", loaded.adapter_id, loaded.adapter_path)
        while not all(await self._call("lethe_prepared", loaded.adapter_id)):
            await asyncio.sleep(PREPARED_POLL_S)

    async def replace_plus(self, plus: SmallModelFacts) -> None:
        """Let the plus lane run another model of its shape. No module may be in the engine; other requests go on.

        Raises InvalidInput when it can't be loaded: the lane then fits no module until a call succeeds.
        """
        self.plus = replace(plus, digest="not loaded")
        try:
            await self._call("lethe_replace_plus", plus.id)
        except EngineDied:
            raise
        except Exception as err:
            raise InvalidInput("plus_model", plus.id, f"a model that vLLM can load ({err})") from err
        self.plus = plus

    async def unload(self, loaded: LoadedModule) -> None:
        """Free the module's slot and memory; no request may be running on it."""
        await self._answered(self.client.remove_lora(loaded.adapter_id))
        await self._call("lethe_forget", loaded.adapter_id)
        await asyncio.to_thread(shutil.rmtree, loaded.adapter_path, ignore_errors=True)

    async def probe(self, loaded: LoadedModule) -> float:
        """The largest change (nats) the module makes to a probe prompt, on the engine where it makes least.

        Raises ProbeFailed when there is none.
        """
        return min([await self._probe(loaded, engine) for engine in range(num_engines(self.client))])

    async def _probe(self, loaded: LoadedModule, engine: int) -> float:
        from lethe_server.engine import probe

        config = self.client.model_config
        prompts = probe.probe_prompts(min(self.small.vocab_size, config.get_vocab_size()), config.max_model_len)
        if engine not in self._plain:
            self._plain[engine] = await self._prompt_scores(prompts, None, engine)
        unlearned = await self._prompt_scores(prompts, loaded.request(loaded.name), engine)
        return probe.largest_change(self._plain[engine], unlearned)

    async def _prompt_scores(self, prompts: list[list[int]], request: Any, engine: int) -> list[float]:
        """One prompt after the other: together they would take longer to compute than a step of the streams does."""
        from lethe_server.engine import probe
        from lethe_server.engine.turns import PROBE_PREFIX

        scores: list[float] = []
        for prompt in prompts:
            request_id = f"{PROBE_PREFIX}{next(self._probes)}"
            scores += await self._answered(probe.prompt_scores(self.client, prompt, request, request_id, engine))
        return scores

    async def read(self) -> Reading:
        """What was counted since the last call. All ranks of an engine see the same rows, so one is believed."""
        return Reading.of([workers[0] for workers in await self._ask("lethe_read")])

    async def _call(self, method: str, *arguments: Any) -> list[Any]:
        """What every worker's method of that name returns."""
        return list(itertools.chain.from_iterable(await self._ask(method, *arguments)))

    async def _ask(self, method: str, *arguments: Any) -> list[list[Any]]:
        """The same, by engine."""
        return await self._answered(ask_workers(self.client, method, arguments))

    async def _answered(self, call: Coroutine[Any, Any, T]) -> T:
        """Raises EngineDied when the engine dies meanwhile: vLLM leaves such calls waiting for ever (0.32)."""
        task, death = asyncio.create_task(call), asyncio.create_task(self.death())
        try:
            await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise death.result()
            return task.result()
        except Exception:
            await self.check()
            raise
        finally:
            task.cancel()
            death.cancel()

    async def check(self) -> None:
        """Raises EngineDied."""
        if self.client.errored:
            raise EngineDied(cause_of_death(self.client))

    async def death(self) -> EngineDied:
        """Wait for the engine's death."""
        while not self.client.errored:
            await asyncio.sleep(DEATH_POLL_S)
        return EngineDied(cause_of_death(self.client))

    async def close(self) -> None:
        handler = self.client.output_handler
        if handler is not None:  # else vLLM logs the end of its engine as this task's failure
            handler.cancel()
        await asyncio.to_thread(self.client.shutdown)
        await asyncio.to_thread(shutil.rmtree, self._adapters, ignore_errors=True)
