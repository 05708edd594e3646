"""The pair in plain transformers, for notebooks and scripts: what it generates and its logits, without a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lethe_offsets.beside import ensemble_beside
from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation.stepping import Stepper
from lethe_offsets.module import Module
from lethe_offsets.processor import OffsetProcessor, all_used, is_mask
from lethe_offsets.training.reference import ReferenceEnsemble


def load_module(path: str | Path, digest: str | None = None) -> Module:
    """The forget module in the directory ``path``, verified; with ``digest``, only the one that has it.

    Raises ModuleInvalid for a broken one, ModuleCorrupt for changed files or another digest.
    """
    return Module.open(path, digest)


def load_pair(
    module: Module,
    small_model: str | Path,
    large: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    strength: float | None = None,
) -> Pair:
    """The module's two lanes, on the device of ``large`` and in its dtype.

    small_model: directory or Hub name of the one that the module is made for. tokenizer: the large model's.
    strength: another than the module's own.

    Raises InvalidInput where there is no such small model or the strength is outside the module's bounds,
    ModuleIncompatible for a module made for another small model or tokenizer.
    """
    return Pair(ensemble_beside(large, tokenizer, small_model, module, strength), tokenizer)


@torch.no_grad()
def ensemble_logits(pair: Pair, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """The unlearned model's logits, float32, [batch, length, vocab]; at padding they mean nothing.

    input_ids, attention_mask: [batch, length], from the tokenizer; without a mask nothing is padding.
    Raises InvalidInput for another shape or other values, or without a mask where padding begins a row.
    """
    if input_ids.dim() != 2:
        raise InvalidInput("input_ids", [*input_ids.shape], "the shape [batch, length]")
    if attention_mask is None:
        used = all_used(input_ids, pair.tokenizer.pad_token_id)
    elif attention_mask.shape == input_ids.shape and is_mask(attention_mask):
        used = attention_mask.long()
    else:
        raise InvalidInput("attention_mask", [*attention_mask.shape], f"0 and 1 in shape {[*input_ids.shape]}")
    return Stepper(pair.ensemble).step(input_ids, used)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """ensemble: the large model, the two lanes beside it, and the rule between them. tokenizer: theirs."""

    ensemble: ReferenceEnsemble
    tokenizer: PreTrainedTokenizerBase

    def processor(self, attention_mask: Tensor | None = None) -> OffsetProcessor:
        """For one ``large.generate(**inputs, logits_processor=[pair.processor(inputs["attention_mask"])])``.

        attention_mask [batch, length]: of the prompts, padded on the left; it may be left out where none is padded.
        Raises InvalidInput for another one.
        """
        return OffsetProcessor(self.ensemble, self.tokenizer.pad_token_id, attention_mask)
