"""What an engine is made of, and the vLLM options that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from lethe_server.engine.plugin import ARCHITECTURE

ADDITIONAL_CONFIG_KEY = "lethe"
SPARE_ADAPTERS = 8  # host memory for modules that come before others have gone; beyond it vLLM reads from the disk


@dataclass(frozen=True)
class EngineSpec:
    """The models of an engine and its limits.

    model, small_model: a directory or a hub name. plus_model: what the plus lane runs in the small model's place, the
    same but for its weights; None: the small model. max_modules_per_batch: adapter slots, modules that one step can
    mix. max_resident_modules: modules and variants kept in host memory. max_module_rank: largest sum of the ranks in a
    slot, of all lanes. max_offsets_per_request: pairs of lanes, modules whose offsets one answer can add. draft_tokens:
    how many the small model drafts for each step, with the pair's weights; 0 for none. pair_dtype: the number format of
    the pair, "auto": the large model's. side_stream: let the pair run beside the large model on a GPU. options: vLLM
    engine arguments by field name.
    """

    model: str
    small_model: str
    served_model_name: str
    plus_model: str | None = None
    max_modules_per_batch: int = 4
    max_resident_modules: int = 64
    max_module_rank: int = 64
    max_offsets_per_request: int = 1
    draft_tokens: int = 0
    pair_dtype: str = "auto"
    side_stream: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PairConfig:
    """What a worker process must know to build the ensemble; travels in vLLM's ``additional_config``.

    architectures: the large model's own. special_ids: what ``pin_special`` pins. slots, rank: the adapter slots and
    the ranks of each; num_pairs: of lanes. The compiled code holds these, and vLLM's compile cache is keyed by this
    config. compile: whether the engine would have compiled the models if no adapters were configured. speculative:
    whether steps hold draft tokens. side_stream: whether the pair may have a stream of its own. dtype: the pair's, see
    ``EngineSpec``.
    """

    small_model: str
    plus_model: str | None
    architectures: tuple[str, ...]
    special_ids: tuple[int, ...]
    slots: int
    rank: int
    num_pairs: int
    compile: bool
    speculative: bool
    side_stream: bool
    dtype: str

    @property
    def lanes(self) -> int:
        return 2 * self.num_pairs

    @classmethod
    def read(cls, additional_config: Mapping[str, Any]) -> PairConfig:
        values = dict(additional_config[ADDITIONAL_CONFIG_KEY])
        values["architectures"] = tuple(values["architectures"])
        values["special_ids"] = tuple(values["special_ids"])
        return cls(**values)


def vllm_options(spec: EngineSpec, pair: PairConfig, max_model_len: int, scheduler: str) -> dict[str, Any]:
    """Keyword arguments for vLLM's ``EngineArgs`` (and ``LLM``). scheduler: qualified name of a fail-closed one."""
    options = dict(spec.options)
    if spec.draft_tokens:
        draft = {"method": "draft_model", "model": spec.small_model, "num_speculative_tokens": spec.draft_tokens}
        options["speculative_config"] = draft
    additional = {**options.pop("additional_config", {}), ADDITIONAL_CONFIG_KEY: asdict(pair)}
    return {
        **options,
        "model": spec.model,
        "served_model_name": [spec.served_model_name],
        "max_model_len": max_model_len,
        "hf_overrides": {**options.pop("hf_overrides", {}), "architectures": [ARCHITECTURE]},
        "additional_config": additional,
        "enable_lora": True,
        "max_loras": pair.slots,
        "max_lora_rank": pair.rank,
        "lora_dtype": "auto" if pair.dtype == "auto" else getattr(torch, pair.dtype),
        "max_cpu_loras": max(spec.max_resident_modules, pair.slots) + SPARE_ADAPTERS,
        "scheduler_cls": scheduler,
        "worker_extension_cls": "lethe_server.engine.worker.RuleKeeper",
    }
