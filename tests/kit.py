"""Tiny models, modules whose rules differ, and a real engine that holds them."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import tiny
from lethe_offsets.create import create_module
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.small_model import SmallModelFacts
from lethe_server.engine.fuse import fuse_lanes, no_adapter
from lethe_server.engine.service import prepare
from lethe_server.engine.spec import EngineSpec
from lethe_server.engine.worker import rule_arguments
from reference import Answering, Lanes, Reference

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ["VLLM_COMPUTE_NANS_IN_LOGITS"] = "1"


@dataclass(frozen=True)
class Kit:
    """Models and modules of a test run.

    special_ids: what the modules with ``pin_special`` pin. plus_model: the plus lane's own, if it has one.
    """

    large: Path
    small: Path
    modules: Mapping[str, Module]
    special_ids: tuple[int, ...]
    plus_model: Path | None = None

    def reference(self) -> Reference:
        return Reference(self.large, self.small, self.special_ids, self.plus_model)

    def named(self, name: str | None) -> list[Module]:
        """The modules of a name, of several with ``+`` between them, of none."""
        return [] if name is None else [self.modules[each] for each in name.split("+")]

    def lanes(self, name: str | None) -> Answering:
        """What answers under a name, see ``named``."""
        found = [Lanes(each.lanes.get("plus"), each.lanes.get("minus"), each.rule) for each in self.named(name)]
        return found if len(found) > 1 else found[0] if found else None


def build_kit(root: Path, vocab_padding: int = 7) -> Kit:
    """A large model whose head is ``vocab_padding`` wider, and three modules, one of them on both lanes."""
    pair = tiny.build_pair(root, seed=0, vocab_padding=vocab_padding)
    rules = {
        "plain": (Rule(), False),
        "both": (Rule(strength=0.5, pin_special=True, clip=2.0), True),
        "ranked": (Rule(mode="rank", rank_k=20, plausibility=0.05), False),
    }
    modules = {}
    for seed, (name, (rule, both)) in enumerate(rules.items()):
        plus = tiny.random_adapter(pair.small, root / f"{name}-plus", rank=4 * (seed + 1), seed=seed)
        minus = tiny.random_adapter(pair.small, root / f"{name}-minus", rank=4, seed=50 + seed) if both else None
        modules[name] = create_module(name, pair.small, plus=plus, minus=minus, rule=rule, out=root / name)
    return Kit(pair.large, pair.small, modules, (0, 1, 2))


class Served:
    """vLLM's synchronous ``LLM`` with modules registered as the server registers them."""

    def __init__(self, llm: Any, folder: Path, small: SmallModelFacts) -> None:
        self.llm = llm
        self.small = small
        self.folder = folder
        self._requests: dict[str, Any] = {}

    def register(self, *modules: Module, with_rule: bool = True) -> Any:
        """A LoRARequest for the modules; without their rules the engine must refuse its rows."""
        from vllm.lora.request import LoRARequest

        key = f"{'+'.join(module.ref for module in modules)}{'' if with_rule else ' without rule'}"
        if key not in self._requests:
            number = len(self._requests) + 1
            path = self.folder / str(number)
            bounds = fuse_lanes([module.adapters() or no_adapter(self.small) for module in modules], path)
            if with_rule:
                rules = [module.rule for module in modules]
                self.llm.collective_rpc("lethe_register_rule", args=rule_arguments(number, rules, bounds))
            self._requests[key] = LoRARequest(key, number, str(path))
        return self._requests[key]

    def inside(self, look: Callable[[Any], Any]) -> Any:
        """What ``look`` gives for the engine's worker, in the worker's process."""
        cloudpickle.register_pickle_by_value(sys.modules[look.__module__])
        (found,) = self.llm.collective_rpc(look)
        return found


@contextmanager
def serve(kit: Kit, folder: Path, **options: Any) -> Iterator[Served]:
    from vllm import LLM

    spec = EngineSpec(
        model=str(kit.large),
        small_model=str(kit.small),
        served_model_name="kit",
        plus_model=kit.plus_model and str(kit.plus_model),
        max_modules_per_batch=options.pop("max_modules_per_batch", 2),
        max_module_rank=32,
        max_offsets_per_request=options.pop("max_offsets_per_request", 1),
        draft_tokens=options.pop("draft_tokens", 0),
        pair_dtype=options.pop("pair_dtype", "auto"),
        options={"dtype": "float32", "max_model_len": 256, "block_size": 32, "max_num_seqs": 32, **options},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # for functions of tests, see Served.inside
        prepared = prepare(spec)
        llm = LLM(**prepared.options)
        try:
            yield Served(llm, folder, prepared.small)
        finally:
            llm.llm_engine.engine_core.shutdown()
            del llm
            gc.collect()
