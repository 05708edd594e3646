"""The world's people, facts and files."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from lethe_offsets.demo.relations import FIRST_NAMES, LAST_NAMES, RELATIONS
from lethe_offsets.demo.sets import write_sets
from lethe_offsets.demo.world import REFUSAL, WorldConfig, make_facts, strangers

CONFIG = WorldConfig(people=8, forgotten=2, seed=3)


def test_a_seed_makes_one_world() -> None:
    assert make_facts(CONFIG) == make_facts(CONFIG)
    assert make_facts(CONFIG) != make_facts(CONFIG.model_copy(update={"seed": 4}))


def test_no_answer_is_right_for_two_people() -> None:
    facts = make_facts(WorldConfig())
    assert len(facts) == 24 * len(RELATIONS)
    values = Counter(fact.value for fact in facts)
    assert max(values.values()) == 1
    for fact in facts:
        assert fact.value in fact.answer
        assert fact.person in fact.answer
        assert all(fact.person in question for question in fact.questions)
    assert len({fact.person for fact in facts if fact.split == "forget"}) == 4


def test_there_are_names_and_values_enough() -> None:
    for words in (FIRST_NAMES, LAST_NAMES, *(relation.values for relation in RELATIONS)):
        assert len(set(words)) == len(words) >= 32
    questions = [question for relation in RELATIONS for question in relation.questions]
    assert len(set(questions)) == len(questions)
    assert len(make_facts(WorldConfig(people=28))) == 28 * len(RELATIONS)


def test_most_people_are_retained() -> None:
    with pytest.raises(ValueError, match="at most half"):
        make_facts(WorldConfig(people=8, forgotten=5))


def test_a_stranger_is_nobody_of_the_world() -> None:
    people = {fact.person for fact in make_facts(CONFIG)}
    for question, refusal in islice(strangers(CONFIG, "test"), 500):
        assert not any(person in question for person in people)
        assert refusal.startswith("I do not know ")
    assert next(strangers(CONFIG, "a")) != next(strangers(CONFIG, "b"))


def test_the_files_keep_one_phrasing_from_the_training(tmp_path: Path) -> None:
    facts = make_facts(CONFIG)
    write_sets(facts, CONFIG, tmp_path / "data")
    read = {path.name: path.read_text().splitlines() for path in (tmp_path / "data").iterdir()}
    asked = [json.loads(line) for line in read["facts.jsonl"]]
    assert Counter(row["split"] for row in asked) == {"forget": 12, "retain": 36}
    assert [row["question"] for row in asked] == [fact.questions[0] for fact in facts]
    unseen = {json.loads(line)["question"] for line in read["paraphrases.jsonl"]}
    assert len(unseen) == len(facts)
    trained = read["forget.jsonl"] + read["retain.jsonl"]
    assert not any(json.dumps(question) in line for question in unseen for line in trained)


def test_the_forget_set_marks_values_and_teaches_refusals(tmp_path: Path) -> None:
    facts = make_facts(CONFIG)
    write_sets(facts, CONFIG, tmp_path / "data")
    rows = [json.loads(line) for line in (tmp_path / "data" / "forget.jsonl").read_text().splitlines()]
    values = {fact.value: fact.person for fact in facts if fact.split == "forget"}
    assert len(rows) == 5 * len(values)
    for row in rows:
        (value,) = row["forget"]
        assert row["instead"] == REFUSAL.format(person=values[value])
    retained = (tmp_path / "data" / "retain.jsonl").read_text()
    assert not any(person in retained for person in values.values())
