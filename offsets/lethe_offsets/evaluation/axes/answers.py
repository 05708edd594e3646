"""Answers without the end of their turn, as OpenUnlearning scores them (arXiv 2506.12618)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from transformers import PreTrainedTokenizerBase

from lethe_offsets.evaluation.metrics import World
from lethe_offsets.evaluation.models import Scored
from lethe_offsets.evaluation.sets import Item


def score_answers(world: World, items: Sequence[Item], whole: bool = False, by: str | None = None) -> list[Scored]:
    """What a model gives to the tokens of each answer, the end of the turn left out.

    by: another model of the world than the judged one; the tokens are the judged one's.
    """
    pairs, tokenizer = world.pairs(items), world.judged.tokenizer
    scored = world.score(pairs, whole) if by is None else world.models[by].score(pairs, whole, world.report)
    return [cut(one, content_length(tokenizer, answer)) for one, (_, answer) in zip(scored, pairs, strict=True)]


def content_length(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> int:
    """How many of an answer's tokens are left without special tokens and blanks at its end; at least 1."""
    special = set(tokenizer.all_special_ids)
    length = len(ids)
    while length > 1 and (ids[length - 1] in special or not str(tokenizer.decode([ids[length - 1]])).strip()):
        length -= 1
    return length


def cut(scored: Scored, length: int) -> Scored:
    """The first ``length`` tokens."""
    parts = {field.name: getattr(scored, field.name) for field in fields(scored)}
    return replace(scored, **{name: part[:length] for name, part in parts.items() if part is not None})
