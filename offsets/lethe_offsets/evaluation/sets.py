"""The questions that a model is judged by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lethe_offsets.digests import bytes_digest
from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.records import Message, Record
from lethe_offsets.training.sources import load_records


@dataclass(frozen=True, slots=True)
class Item:
    """A question with its answer, and what TOFU has beside them.

    before: the turns before the question. terms: parts of the answer that alone are to be forgotten, if it names any.
    """

    question: str
    answer: str
    before: tuple[Message, ...] = ()
    terms: tuple[str, ...] = ()
    paraphrased_question: str | None = None
    paraphrased_answer: str | None = None
    perturbed_answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sets:
    """forget, retain: what has to be gone, what has to stay. holdout: what no model has seen.

    real_authors, world_facts: TOFU's. split: ``forget10`` and so on; None for a user's own sets.
    """

    forget: tuple[Item, ...]
    retain: tuple[Item, ...] = ()
    holdout: tuple[Item, ...] = ()
    real_authors: tuple[Item, ...] = ()
    world_facts: tuple[Item, ...] = ()
    split: str | None = None

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of all items."""
        return _digest({name: [_plain(item) for item in items] for name, items in self.by_name().items()})

    @property
    def forget_digest(self) -> str:
        """``sha256:<hex>`` of the forget set."""
        return _digest([_plain(item) for item in self.forget])

    def by_name(self) -> dict[str, tuple[Item, ...]]:
        """The sets that aren't empty."""
        return {name: getattr(self, name) for name in SETS if getattr(self, name)}

    def asked(self) -> list[tuple[str, Item]]:
        """Every item of every set but the holdout, with its set's name."""
        return [(name, item) for name, items in self.by_name().items() if name != "holdout" for item in items]

    def first(self, limit: int) -> Sets:
        """The first ``limit`` items of each set."""
        return Sets(
            self.forget[:limit],
            self.retain[:limit],
            self.holdout[:limit],
            self.real_authors[:limit],
            self.world_facts[:limit],
            self.split,
        )


SETS = ("forget", "retain", "holdout", "real_authors", "world_facts")


def own_sets(forget: str | Path, retain: str | Path | None = None, holdout: str | Path | None = None) -> Sets:
    """Sets of a user's own, from whatever ``lethe train`` reads.

    Raises InvalidInput as ``load_records`` does, and for a plain text, which asks nothing.
    """
    sources = {"forget": forget, "retain": retain, "holdout": holdout}
    found = {name: tuple(_items(name, load_records(source))) for name, source in sources.items() if source is not None}
    return Sets(found["forget"], found.get("retain", ()), found.get("holdout", ()))


def _items(name: str, records: Sequence[Record]) -> Iterator[Item]:
    for record in records:
        *before, question, answer = record.chat() or (None, None)
        if question is None or answer is None:
            accepted = "question and answer, or messages: an evaluation asks questions"
            raise InvalidInput(f"{name}: text", (record.text or "")[:60], accepted)
        yield Item(question.content, answer.content, tuple(filter(None, before)), tuple(record.forget or ()))


def _digest(content: object) -> str:
    return bytes_digest(json.dumps(content, sort_keys=True).encode())


def _plain(item: Item) -> dict[str, object]:
    return {**asdict(item), "before": [message.model_dump() for message in item.before]}
