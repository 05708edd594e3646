"""Asking a model about items, in whatever words, and what its replies give away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import JsonValue

from lethe_offsets.evaluation.axes.secrets import said_share, secret_parts
from lethe_offsets.evaluation.metrics import World
from lethe_offsets.evaluation.sets import Item
from lethe_offsets.evaluation.tofu.rouge import recalls


@dataclass(frozen=True, slots=True)
class Query:
    """An item and the item that is really asked: the same in other words, or after other turns. frame: which."""

    item: Item
    asked: Item
    frame: str = "plain"


@dataclass(frozen=True, slots=True)
class Told:
    """What a reply tells of an answer.

    rouge: ROUGE-L recall, as TOFU has it. told: the share of the answer's secret parts (see ``secrets.py``); None for
    an answer without any.
    """

    rouge: float
    told: float | None


def judge(items: Sequence[Item], replies: Sequence[str]) -> list[Told]:
    """Hold each reply against its item's answer."""
    rouge = recalls([item.answer for item in items], replies)
    return [Told(*row) for row in zip(rouge, map(_told, items, replies), strict=True)]


def ask(world: World, queries: Sequence[Query]) -> list[str]:
    """The most probable reply to each query."""
    return world.answer(world.prompts(query.asked for query in queries))


def entries(queries: Sequence[Query], replies: Sequence[str], told: Sequence[Told]) -> list[dict[str, JsonValue]]:
    """Queries, replies and what these tell, as items of a result."""
    return [
        {
            "question": query.item.question,
            "asked": query.asked.question,
            "frame": query.frame,
            "answer": query.item.answer,
            "said": reply,
            "rouge": one.rouge,
            "told": one.told,
        }
        for query, reply, one in zip(queries, replies, told, strict=True)
    ]


def summarise(told: Sequence[Told], prefix: str = "") -> dict[str, float]:
    """Means over replies; ``told`` over those to questions with secret parts, and missing where none has any."""
    means = {f"{prefix}rouge": fmean(one.rouge for one in told)}
    known = present(one.told for one in told)
    return means | ({f"{prefix}told": fmean(known)} if known else {})


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` items, evenly over all of them."""
    size = min(most, len(items))
    return [items[place * len(items) // size] for place in range(size)]


def present(values: Iterable[float | None]) -> list[float]:
    """Those that are not None."""
    return [value for value in values if value is not None]


def _told(item: Item, reply: str) -> float | None:
    parts = secret_parts(item.question, item.answer, item.terms)
    return said_share(parts, reply) if parts else None
