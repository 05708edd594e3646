"""The demo's tables: what is answered with the forget module and without."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from lethe_offsets.demo.build import DemoWorld
from lethe_offsets.demo.evaluate import Question, Score, answer_all, exact_matches, read_questions
from lethe_offsets.module import Module
from lethe_offsets.training.reference import ReferenceEnsemble, load_model, load_tokenizer
from lethe_offsets.training.threads import one_thread

EXAMPLES = 3  # people of each split, each with another question

Answers = dict[str, str]  # by question


def compare(world: DemoWorld) -> Iterator[Table]:
    """Two tables: right answers counted, and some answers, both before and after. Runs in this process."""
    with one_thread():
        yield from _compare(world)


def _compare(world: DemoWorld) -> Iterator[Table]:
    tokenizer, large = load_tokenizer(world.large), load_model(world.large)
    before = ReferenceEnsemble.plain(large)
    after = ReferenceEnsemble.of_module(large, world.small, Module.open(world.module), tokenizer)
    facts, paraphrases = read_questions(world.facts), read_questions(world.paraphrases)
    answers = [answer_all(ensemble, tokenizer, [*facts, *paraphrases]) for ensemble in (before, after)]
    yield _scores(facts, paraphrases, *answers)
    yield _examples(facts, *answers)


def _scores(facts: list[Question], paraphrases: list[Question], before: Answers, after: Answers) -> Table:
    table = Table("answered exactly", "before", "after", title="What the served model knows", title_justify="left")
    for asked, manner in ((facts, ""), (paraphrases, ", other words")):
        old, new = exact_matches(asked, before.__getitem__), exact_matches(asked, after.__getitem__)
        table.add_row(f"people to forget{manner}", _score(old["forget"]), _score(new["forget"]))
        table.add_row(f"all other people{manner}", _score(old["retain"]), _score(new["retain"]))
    table.caption = "other words: a phrasing that the module was not trained on"
    return table


def _score(score: Score) -> str:
    return f"{score.exact} of {score.total}"


def _examples(facts: list[Question], before: Answers, after: Answers) -> Table:
    table = Table("", "question", "before", "after", title="Some answers", title_justify="left")
    for split in ("forget", "retain"):
        people = list(dict.fromkeys(question.person for question in facts if question.split == split))
        for place, person in enumerate(people[:EXAMPLES]):
            question = [question.question for question in facts if question.person == person][place]
            table.add_row(split, question, before[question], after[question])
    return table
