"""Several forget modules as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lethe_offsets.adapter import LaneAdapter
from lethe_offsets.adapter_files import adapter_files
from lethe_offsets.create import check_free, write_module
from lethe_offsets.errors import InvalidInput
from lethe_offsets.low_rank import Factors
from lethe_offsets.manifest import Lane, Manifest
from lethe_offsets.merging.agreement import check_mergeable, choose_rule
from lethe_offsets.merging.inputs import read_inputs
from lethe_offsets.merging.methods import Merged, cut, delta_of, merge_pairs
from lethe_offsets.merging.regression import regress
from lethe_offsets.merging.settings import MergeSettings
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.threads import one_thread

Layers = Mapping[str, Merged]  # by the name of the small model's layer


def merge_modules(
    modules: Sequence[Module],
    settings: MergeSettings,
    *,
    name: str,
    out: Path,
    rule: Rule | None = None,
    version: str = "1",
    description: str | None = None,
    forget_set_digest: str | None = None,
    report: Report = silent,
) -> Module:
    """Write one module with the weights of several to ``out``, which must not exist, and return it verified.

    No model is loaded and nothing else is read, but for ``regression`` (see ``inputs.py``). The same modules in the
    same order and the same settings give the same bytes: the time in the manifest is the newest module's, and one
    thread computes. rule: the one that all modules have unless given; the strength's bounds are those that all allow.
    description: the modules' together unless given.

    Raises InvalidInput for a setting, a file of inputs or ``out``, ModuleIncompatible for modules that don't go
    together. Nothing is left behind at ``out`` then.
    """
    check_free(out)
    check_mergeable(modules)
    rule = rule or choose_rule(modules)
    if settings.weights is not None and len(settings.weights) != len(modules):
        raise InvalidInput("weights", list(settings.weights), f"one for each of the {len(modules)} modules")
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        lanes = {lane: _merge_lane(modules, lane, settings, report) for lane in modules[0].manifest.lanes}
    given: dict[str, object] = {"name": name, "version": version, "rule": rule, "forget_set_digest": forget_set_digest}
    if description is not None:
        given["description"] = description
    manifest = _manifest(modules, settings, _kept(lanes), given)
    return write_module(manifest, {lane: adapter_files(_adapter(layers)) for lane, layers in lanes.items()}, out)


def _merge_lane(modules: Sequence[Module], lane: Lane, settings: MergeSettings, report: Report) -> Layers:
    """Every layer that one of the modules adapts; modules without the layer have no say in it."""
    adapters = [module.adapters()[lane] for module in modules]
    weights = settings.weights or (1.0,) * len(modules)
    rank = settings.rank or max(adapter.rank for adapter in adapters)
    layers = sorted({layer for adapter in adapters for layer in adapter.pairs})
    merged = {}
    for done, layer in enumerate(layers, start=1):
        holders = [index for index, adapter in enumerate(adapters) if layer in adapter.pairs]
        pairs = [adapters[index].pairs[layer] for index in holders]
        if settings.method == "regression":
            products = [read_inputs(modules[index], lane, layer, pairs[0].a.shape[1]) for index in holders]
            merged[layer] = cut(Factors.of_matrix(regress([delta_of(pair) for pair in pairs], products)), rank)
        else:
            merged[layer] = merge_pairs(settings, pairs, [weights[index] for index in holders], rank)
        report(f"merge, {lane} lane", done, len(layers))
    return merged


def _adapter(layers: Layers) -> LaneAdapter:
    return LaneAdapter({name: layer.pair for name, layer in layers.items()})


def _kept(lanes: Mapping[Lane, Layers]) -> float:
    """Share of the squared weights that the rank of the result holds."""
    merged = [layer for layers in lanes.values() for layer in layers.values()]
    squares = sum(layer.squares for layer in merged)
    return 1.0 - sum(layer.lost for layer in merged) / squares if squares else 1.0


def _manifest(modules: Sequence[Module], settings: MergeSettings, kept: float, given: Mapping[str, object]) -> Manifest:
    """What the modules have in common, what was done with them, and what is ``given``."""
    manifests = [module.manifest for module in modules]
    large_models = {manifest.large_model for manifest in manifests}
    merged: dict[str, object] = {
        "created": max(manifest.created for manifest in manifests),
        "description": "\n".join(dict.fromkeys(manifest.description for manifest in manifests)),
        "large_model": large_models.pop() if len(large_models) == 1 else None,
        "licence": " AND ".join(dict.fromkeys(manifest.licence for manifest in manifests)),
        "strength_bounds": (
            max(manifest.strength_bounds[0] for manifest in manifests),
            min(manifest.strength_bounds[1] for manifest in manifests),
        ),
        "algorithm": f"merge, {settings.method}",
        "hyperparameters": {
            "modules": [module.ref for module in modules],
            "weights": None if settings.weights is None else list(settings.weights),
            "density": settings.share if settings.sparse else None,
            "seed": settings.seed,
            "kept": round(kept, 6),
        },
    }
    return Manifest.build(**{**manifests[0].model_dump(), **merged, **given})
