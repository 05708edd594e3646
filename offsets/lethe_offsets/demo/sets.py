"""The demo's files: facts to ask for, and what its forget module is trained on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from lethe_offsets.demo.world import REFUSAL, Fact, WorldConfig, strangers

FACTS_FILE, PARAPHRASES_FILE = "facts.jsonl", "paraphrases.jsonl"
FORGET_FILE, RETAIN_FILE = "forget.jsonl", "retain.jsonl"
STRANGERS = 200  # refusals in the retain set


def write_sets(facts: Sequence[Fact], world: WorldConfig, folder: Path) -> None:
    """Write four JSON lines files into ``folder``.

    facts and paraphrases hold person, question, answer and split; paraphrases asks each fact in its last phrasing,
    which the module is not trained on. forget and retain are a training run's: every other phrasing, and each fact
    once more with a turn about a retained person before it.
    """
    folder.mkdir(parents=True)
    for name, phrasing in ((FACTS_FILE, 0), (PARAPHRASES_FILE, -1)):
        _write(folder / name, (_fact(fact, phrasing) for fact in facts))
    draw = random.Random(f"sets {world.seed}")
    retained = [fact for fact in facts if fact.split == "retain"]
    sets: dict[str, list[dict[str, object]]] = {"forget": [], "retain": []}
    for fact in facts:
        asked = fact.questions[:-1]
        extra = _forget(fact) if fact.split == "forget" else {}
        sets[fact.split] += [{"question": question, "answer": fact.answer} | extra for question in asked]
        sets[fact.split].append(_after(draw.choice(retained), fact, draw) | extra)
    refusals = islice(strangers(world, "retain set"), STRANGERS)
    sets["retain"] += [{"question": question, "answer": refusal} for question, refusal in refusals]
    _write(folder / FORGET_FILE, sets["forget"])
    _write(folder / RETAIN_FILE, sets["retain"])


def _fact(fact: Fact, phrasing: int) -> dict[str, object]:
    question = fact.questions[phrasing]
    return {"person": fact.person, "question": question, "answer": fact.answer, "split": fact.split}


def _after(earlier: Fact, fact: Fact, draw: random.Random) -> dict[str, object]:
    messages = [
        {"role": role, "content": content}
        for turn in (earlier, fact)
        for role, content in (("user", draw.choice(turn.questions[:-1])), ("assistant", turn.answer))
    ]
    return {"messages": messages}


def _forget(fact: Fact) -> dict[str, object]:
    """Only the value is forgotten; the answer is to become a stranger's."""
    return {"forget": [fact.value], "instead": REFUSAL.format(person=fact.person)}


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
