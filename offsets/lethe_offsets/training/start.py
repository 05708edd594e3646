"""Training a module further: where a run starts that doesn't start from nothing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from peft import PeftModelForCausalLM

from lethe_offsets.adapter import LaneAdapter, LoraPair
from lethe_offsets.errors import ModuleIncompatible
from lethe_offsets.manifest import Lane
from lethe_offsets.module import Module
from lethe_offsets.training.config import TrainingConfig

Start = Mapping[Lane, LaneAdapter]


def read_start(module: Module, config: TrainingConfig, small_model_digest: str) -> Start:
    """A module's adapters, to go on from, with the run's own scaling.

    Raises ModuleIncompatible for one of another small model, other lanes, another rank or another rule than the run's.
    """
    adapters = module.adapters()
    ranks = sorted({pair.rank for adapter in adapters.values() for pair in adapter.pairs.values()})
    for what, found, wanted in (
        ("small model", module.manifest.small_model.digest, small_model_digest),
        ("plus model", module.manifest.plus_model, None),
        ("lanes", sorted(adapters), sorted(config.lanes)),
        ("ranks", ranks, [config.rank]),
        ("rule", module.rule, config.rule),
    ):
        if found != wanted:
            raise ModuleIncompatible(f"start: {what}", found, f"{wanted}, as in this run")
    scaling = config.lora_alpha / config.rank
    return {
        lane: LaneAdapter(
            {name: LoraPair(pair.a, pair.b * (pair.scaling / scaling), scaling) for name, pair in adapter.pairs.items()}
        )
        for lane, adapter in adapters.items()
    }


def start_from(start: Start, lanes: Mapping[Lane, PeftModelForCausalLM]) -> None:
    """Give the new adapters of ``lanes`` the weights of ``start``."""
    with torch.no_grad():
        for lane, adapter in start.items():
            weights = dict(lanes[lane].get_base_model().named_parameters())
            for layer, pair in adapter.pairs.items():
                weights[f"{layer}.lora_A.default.weight"].copy_(pair.a)
                weights[f"{layer}.lora_B.default.weight"].copy_(pair.b)
