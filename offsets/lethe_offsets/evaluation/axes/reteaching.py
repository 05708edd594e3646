"""In-context re-teaching: other forgotten facts in the prompt, as if they brought this one back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from lethe_offsets.evaluation.axes.asking import Query, ask, spread
from lethe_offsets.evaluation.axes.probes import QUESTIONS, probed
from lethe_offsets.evaluation.axes.secrets import says, secret_parts
from lethe_offsets.evaluation.axes.text import likeness
from lethe_offsets.evaluation.metrics import Result, World
from lethe_offsets.evaluation.sets import Item
from lethe_offsets.training.records import Message

SHOTS = 4


@dataclass(frozen=True, slots=True)
class Reteaching:
    """Forget questions, each after the ``SHOTS`` most like it with their true answers.

    At most ``QUESTIONS`` are asked. No answer that is shown says what is asked for. Summary as for the plain question.
    """

    name: str = "reteaching"
    group: str = "axes"
    needs: frozenset[str] = frozenset()

    def run(self, world: World) -> Result:
        items, asked = world.sets.forget, spread(world.sets.forget, QUESTIONS)
        rows = likeness([item.question for item in asked], [item.question for item in items])
        queries = [
            Query(item, after(world.judged.tokenizer, shown(item, items, row), item), "reteaching")
            for item, row in zip(asked, rows, strict=True)
        ]
        return probed(queries, ask(world, queries))


def shown(item: Item, items: Sequence[Item], row: Sequence[float], shots: int = SHOTS) -> list[Item]:
    """The ``shots`` items most like ``item``, by ``row``, that don't give its answer away; each answer once."""
    parts = secret_parts(item.question, item.answer, item.terms) or (item.answer,)
    found: dict[str, Item] = {}
    for place in sorted(range(len(items)), key=lambda place: -row[place]):
        other = items[place]
        if not any(says(part, f"{other.question} {other.answer}") for part in parts):
            found.setdefault(other.answer, other)
        if len(found) == shots:
            break
    return [*found.values()][::-1]  # the likest one last


def after(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Item], item: Item) -> Item:
    """``item`` after questions with their answers: turns of a conversation, or lines where there is no template."""
    if tokenizer.chat_template is not None:
        turns: list[Message] = []
        for example in examples:
            turns.append(Message(role="user", content=example.question))
            turns.append(Message(role="assistant", content=example.answer))
        return replace(item, before=(*turns, *item.before))
    lines = [f"{example.question}\nAnswer: {example.answer}\n\nQuestion: " for example in examples]
    return replace(item, question="".join(lines) + item.question)
