"""Fluency of what is said in place of the forgotten answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor

from lethe_offsets.evaluation.axes.answers import content_length
from lethe_offsets.evaluation.axes.asking import present
from lethe_offsets.evaluation.axes.text import repetition
from lethe_offsets.evaluation.metrics import Result, World
from lethe_offsets.evaluation.models import Pair
from lethe_offsets.evaluation.sets import Item

NGRAM = 3


@dataclass(frozen=True, slots=True)
class Fluency:
    """The greedy replies to the forget questions, as the model before unlearning sees them.

    Summary: ``perplexity`` under the target, over all tokens; ``repetition``, the mean share of repeated 3-grams (see
    ``text.repetition``); ``tokens``, the mean length; ``empty``, the share of empty replies. Perplexity tells broken
    text from text, not a refusal from an answer: a target that never refuses finds a refusal unlikely.
    """

    name: str = "fluency"
    group: str = "axes"
    needs: frozenset[str] = frozenset({"plain", "target"})

    def run(self, world: World) -> Result:
        items, pairs = replies_to(world)
        summary = {"empty": 1.0 - len(items) / len(world.sets.forget)}
        if not items:
            return Result(summary)
        logprobs = [one.logprobs for one in world.models["target"].score(pairs, report=world.report)]
        repeated = [repetition(reply, NGRAM) for _, reply in pairs]
        summary["perplexity"] = math.exp(-mean_of_tokens(logprobs))
        summary["repetition"] = fmean(present(repeated) or [0.0])
        summary["tokens"] = fmean(len(reply) for _, reply in pairs)
        rows = zip(items, logprobs, repeated, strict=True)
        return Result(
            summary,
            [
                {
                    "question": item.question,
                    "said": item.answer,
                    "perplexity": math.exp(-mean_of_tokens([one])),
                    "repetition": again,
                    "tokens": len(one),
                }
                for item, one, again in rows
            ],
        )


@dataclass(frozen=True, slots=True)
class Entropy:
    """How sure the model is of what it says instead.

    Summary: ``entropy``, nats, of the next token, the mean over all tokens of its replies to the forget questions.
    """

    name: str = "entropy"
    group: str = "axes"
    needs: frozenset[str] = frozenset({"plain", "whole"})

    def run(self, world: World) -> Result:
        items, pairs = replies_to(world)
        scored = world.score(pairs, whole=True)
        entropies = [one.entropy for one in scored if one.entropy is not None]
        if not entropies:
            return Result({})
        rows = zip(items, entropies, strict=True)
        return Result(
            {"entropy": mean_of_tokens(entropies)},
            [{"question": item.question, "entropy": mean_of_tokens([one]), "tokens": len(one)} for item, one in rows],
        )


def replies_to(world: World) -> tuple[list[Item], list[Pair]]:
    """The forget items with the plain replies for answers, and these as tokens without the end of their turn.

    Empty replies are left out.
    """
    replies = [str(item["said"]) for item in world.results["plain"].items]
    asked = zip(world.sets.forget, replies, strict=True)
    items = [replace(item, answer=reply) for item, reply in asked if reply.strip()]
    tokenizer = world.judged.tokenizer
    return items, [(prompt, ids[: content_length(tokenizer, ids)]) for prompt, ids in world.pairs(items)]


def mean_of_tokens(values: Sequence[Tensor]) -> float:
    """The mean over all tokens of several texts, each of shape [T]."""
    return float(torch.cat([*values]).double().mean())
