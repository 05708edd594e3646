"""Requests to an :class:`OffsetEngine` from tests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kit import Kit
from lethe_offsets.module import Module
from lethe_server.engine.data_parallel import num_engines
from lethe_server.engine.loaded import LoadedModule
from lethe_server.engine.service import OffsetEngine
from lethe_server.engine.spec import EngineSpec
from reference import Lanes

PROMPT = [(17 * i) % 380 + 3 for i in range(90)]
NUM_TOKENS = 10
_numbers = itertools.count(1)


def spec(kit: Kit, **settings: Any) -> EngineSpec:
    """Two slots, float32, not compiled."""
    options = {"dtype": "float32", "max_model_len": 256, "block_size": 32, "enforce_eager": True}
    return EngineSpec(
        str(kit.large),
        str(kit.small),
        "kit",
        kit.plus_model and str(kit.plus_model),
        **{"max_modules_per_batch": 2, "max_module_rank": 32, "options": options, **settings},
    )


async def answer(engine: OffsetEngine, loaded: LoadedModule | None, num_tokens: int = NUM_TOKENS) -> list[int]:
    """Greedy tokens after ``PROMPT``."""
    output = await _ask(engine, PROMPT, loaded, max_tokens=num_tokens)
    return list(output.outputs[0].token_ids)


async def ask_all(
    engine: OffsetEngine, prompts: Sequence[list[int]], loaded: Sequence[LoadedModule | None], turn: int = 1
) -> list[Any]:
    """All requests at once, prompts scored too; every ``turn`` of them go to the next of the client's engines."""
    engines = num_engines(engine.client)
    scored = {"max_tokens": NUM_TOKENS, "logprobs": 0, "prompt_logprobs": 0}
    return list(
        await asyncio.gather(
            *(
                _ask(engine, prompt, module, rank=number // turn % engines, **scored)
                for number, (prompt, module) in enumerate(zip(prompts, loaded, strict=True))
            )
        )
    )


async def _ask(
    engine: OffsetEngine,
    prompt: list[int],
    loaded: LoadedModule | None,
    rank: int | None = None,
    **params: Any,
) -> Any:
    """The final output of one greedy request. rank: which of the client's engines; None for any."""
    from vllm import SamplingParams

    final: Any = None
    async for output in engine.client.generate(
        {"prompt_token_ids": prompt},
        SamplingParams(temperature=0.0, ignore_eos=True, **params),
        f"asked-{next(_numbers)}",
        lora_request=None if loaded is None else loaded.request(loaded.name),
        data_parallel_rank=rank,
    ):
        final = output
    return final


def lanes_of(module: Module, **rule: Any) -> Lanes:
    """The module as the reference sees it, with other settings of its rule."""
    return Lanes(module.lanes.get("plus"), module.lanes.get("minus"), replace(module.rule, **rule))
