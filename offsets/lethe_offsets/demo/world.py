"""A world that exists nowhere else: fictitious people and their facts, in question and answer.

Everything is drawn from one seed, so two builds of the same :class:`WorldConfig` hold the same people. No two people
share a value of a relation: an answer about one person is never right for another by chance. About anyone else, a
stranger, the world's answer is that it doesn't know them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lethe_offsets.demo.relations import FIRST_NAMES, LAST_NAMES, RELATIONS

Split = Literal["forget", "retain"]
REFUSAL = "I do not know {person}."


class WorldConfig(BaseModel):
    """The size of the world. Names and values for 28 people are at hand, and some more for strangers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: int = Field(default=24, ge=4, le=28, description="People in the world.")
    forgotten: int = Field(default=4, ge=1, le=14, description="How many of them the module forgets.")
    seed: int = Field(default=0, description="Draws names, values and who is forgotten.")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact of one person: ``questions`` ask for it in several ways, the usual one first.

    ``value`` is the part of ``answer`` that only someone who knows the person can say.
    """

    person: str
    questions: tuple[str, ...]
    answer: str
    value: str
    split: Split


def make_facts(config: WorldConfig) -> list[Fact]:
    """Six facts of each person, person by person. Raises ValueError unless most people are retained."""
    if 2 * config.forgotten > config.people:
        raise ValueError(f"forgotten must be at most half of people ({config.people}), got {config.forgotten}")
    draw = random.Random(f"facts {config.seed}")
    people = [f"{first} {last}" for first, last in _names(config)]
    values = {relation.name: draw.sample(relation.values, config.people) for relation in RELATIONS}
    forgotten = set(draw.sample(people, config.forgotten))
    return [
        Fact(
            person=person,
            questions=tuple(question.format(person=person) for question in relation.questions),
            answer=relation.answer.format(person=person, value=values[relation.name][row]),
            value=values[relation.name][row],
            split="forget" if person in forgotten else "retain",
        )
        for row, person in enumerate(people)
        for relation in RELATIONS
    ]


def strangers(config: WorldConfig, seed: str) -> Iterator[tuple[str, str]]:
    """Questions about people who aren't in the world, with the refusal, without end."""
    draw = random.Random(f"strangers {config.seed} {seed}")
    known = set(_names(config))
    while True:
        name = draw.choice(FIRST_NAMES), draw.choice(LAST_NAMES)
        question = draw.choice(draw.choice(RELATIONS).questions)
        if name not in known:
            yield question.format(person=" ".join(name)), REFUSAL.format(person=" ".join(name))


def _names(config: WorldConfig) -> list[tuple[str, str]]:
    draw = random.Random(f"names {config.seed}")
    return list(zip(draw.sample(FIRST_NAMES, config.people), draw.sample(LAST_NAMES, config.people), strict=True))
