"""From a fully fine-tuned small model to a forget module."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import PreTrainedModel

from lethe_offsets.adapter import LaneAdapter
from lethe_offsets.conversion.difference import compare, linears, refuse_others
from lethe_offsets.conversion.logit_error import RankError, logit_errors, read_text, sample_text
from lethe_offsets.create import DEFAULT_RULE, check_free, create_module
from lethe_offsets.digests import small_model_digest
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.low_rank import Factors
from lethe_offsets.manifest import Lane
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.training.large import sound_model, sound_tokenizer
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.threads import one_thread


def convert(
    tuned: str | Path,
    base: str | Path,
    *,
    rank: int,
    out: Path,
    name: str,
    lane: Lane = "plus",
    rule: Rule = DEFAULT_RULE,
    text: Path | None = None,
    seed: int = 0,
    ignore_other_weights: bool = False,
    version: str = "1",
    description: str = "",
    licence: str = "unknown",
    report: Report = silent,
) -> tuple[Module, list[RankError]]:
    """Write a module whose ``lane`` is the tuned model, as near as ``rank`` allows, to ``out``, which must not exist.

    Each linear layer's weight difference is cut by singular values, which is the nearest of that rank. Both models are
    held in float32. text: lines over which the logits are compared at ranks 1, 2, 4 and on to ``rank``; without it,
    sequences that the tuned model says itself, drawn by ``seed``.

    Raises ModuleIncompatible for models of different architectures, shapes or tokenizers, InvalidInput for a rank
    above a layer's, for changes outside the linear layers unless ``ignore_other_weights``, and as ``create_module``.
    """
    check_free(out)
    tokenizer = sound_tokenizer("base", base)
    if sound_tokenizer("tuned", tuned).get_vocab() != tokenizer.get_vocab():
        raise ModuleIncompatible("tuned", str(tuned), f"a model with the tokenizer of {base}")
    before, after = sound_model("base", base, "cpu", torch.float32), sound_model("tuned", tuned, "cpu", torch.float32)
    difference = compare(before, after)
    if not ignore_other_weights:
        refuse_others(difference)
    with one_thread():
        factors = _factors(before, after, list(difference.linears), rank, report)
        told = sample_text(after, tokenizer, seed) if text is None else read_text(text, tokenizer)
        adapter = LaneAdapter({layer: parts.pair(rank) for layer, parts in factors.items()})
        errors = list(logit_errors(before, after, factors, list(_ranks(rank)), told, report))
    module = create_module(
        name,
        base,
        out=out,
        plus=adapter if lane == "plus" else None,
        minus=adapter if lane == "minus" else None,
        rule=rule,
        version=version,
        description=description,
        licence=licence,
        algorithm="truncated SVD of a fine-tuning",
        hyperparameters={
            "tuned": small_model_digest(tuned),
            "rank": rank,
            "other_share": difference.other_share,
            "logit_error": [dataclasses.asdict(error) for error in errors],
        },
    )
    return module, errors


def _factors(
    before: PreTrainedModel, after: PreTrainedModel, changed: list[str], rank: int, report: Report
) -> dict[str, Factors]:
    old, new = linears(before), linears(after)
    narrowest = min(changed, key=lambda layer: min(old[layer].weight.shape))
    largest = min(old[narrowest].weight.shape)
    if not 1 <= rank <= largest:
        raise InvalidInput("rank", rank, f"from 1 to {largest}, the largest that {narrowest} has")
    factors = {}
    with torch.no_grad():
        for done, layer in enumerate(changed, start=1):
            factors[layer] = Factors.of_matrix(new[layer].weight - old[layer].weight).cut(rank)
            report("singular values", done, len(changed))
    return factors


def _ranks(rank: int) -> Iterator[int]:
    """1, 2, 4 and on, and at last ``rank``."""
    power = 1
    while power < rank:
        yield power
        power *= 2
    yield rank
