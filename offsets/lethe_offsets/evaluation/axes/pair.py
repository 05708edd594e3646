"""The pair of a module that is judged in process: what may be done to it without touching the module."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from peft import PeftModel
from torch.nn import Module, Parameter

from lethe_offsets.evaluation.local import Local
from lethe_offsets.evaluation.metrics import NotApplicable, World
from lethe_offsets.evaluation.models import Judged


def own_pair(world: World) -> Local:
    """The judged model with a copy of its pair, whose weights may be changed.

    Raises NotApplicable for a model that has no pair, or that runs elsewhere.
    """
    return _with_copy(_local(world.judged), _local(world.judged))


def fresh_pair(world: World) -> Local:
    """The judged model with a copy of the module's pair whose adapters do nothing yet.

    Raises NotApplicable as ``own_pair`` does. Only for metrics that need ``module``.
    """
    pair = _with_copy(_local(world.judged), _local(world.models["module"]))
    with torch.no_grad():
        for lane in (pair.ensemble.plus, pair.ensemble.minus):
            for name, weight in lane.named_parameters() if isinstance(lane, PeftModel) else ():
                if "lora_B" in name:
                    weight.zero_()
    return pair


def adapter_weights(lane: Module | None) -> list[Parameter]:
    """What an adapter adds to a lane, ready to be trained; nothing for a lane without one."""
    found = [] if lane is None else [weight for name, weight in lane.named_parameters() if "lora_" in name]
    for weight in found:
        weight.requires_grad_()
    return found


def _local(judged: Judged) -> Local:
    if not isinstance(judged, Local):
        raise NotApplicable(f"{judged.name} runs elsewhere")
    return judged


def _with_copy(judged: Local, of: Local) -> Local:
    plus, minus = of.ensemble.plus, of.ensemble.minus
    if plus is None or minus is None:
        raise NotApplicable(f"{of.name} has no pair")
    plus, minus = copy.deepcopy(plus), copy.deepcopy(minus)
    return replace(judged, ensemble=replace(of.ensemble, large=judged.ensemble.large, plus=plus, minus=minus))
