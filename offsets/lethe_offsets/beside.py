"""A forget module's two lanes beside a large model that is loaded, checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lethe_offsets.digests import small_model_digest, tokenizer_digest
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.module import Module
from lethe_offsets.training.reference import ReferenceEnsemble


def ensemble_beside(
    large: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    small: str | Path,
    module: Module,
    strength: float | None = None,
) -> ReferenceEnsemble:
    """The lanes on the large model's device and in its dtype. strength: another than the module's.

    tokenizer: the large model's. Raises InvalidInput where there is no such small model or strength,
    ModuleIncompatible for a module made for another small model or tokenizer.
    """
    manifest, (low, high) = module.manifest, module.manifest.strength_bounds
    if small_model_digest(small) != manifest.small_model.digest:
        raise ModuleIncompatible("small", str(small), f"{manifest.small_model.id}, for which {module.name} is made")
    if tokenizer_digest(tokenizer) != manifest.tokenizer_digest:
        raise ModuleIncompatible("large", tokenizer.name_or_path, f"a model with {small}'s tokenizer")
    if strength is not None and not low <= strength <= high:
        raise InvalidInput("strength", strength, f"{low:g} to {high:g}, the bounds of {module.name}")
    ensemble = ReferenceEnsemble.of_module(large, small, module, tokenizer)
    return ensemble if strength is None else replace(ensemble, rule=replace(ensemble.rule, strength=strength))
