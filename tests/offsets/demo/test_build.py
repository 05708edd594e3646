"""What the demo promises, on what it builds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lethe_offsets.cli import app
from lethe_offsets.demo.build import DemoWorld, build_world
from lethe_offsets.demo.evaluate import Question, answer_all, exact_matches, read_questions
from lethe_offsets.demo.world import REFUSAL, WorldConfig, make_facts, strangers
from lethe_offsets.module import Module
from lethe_offsets.training.reference import ReferenceEnsemble, load_model, load_tokenizer

pytestmark = pytest.mark.usefixtures("demo_world")


@dataclass(frozen=True)
class Ensembles:
    """The large model alone and with the module."""

    before: ReferenceEnsemble
    after: ReferenceEnsemble


@pytest.fixture(scope="module")
def ensembles(demo_world: DemoWorld) -> Ensembles:
    large, words = load_model(demo_world.large), load_tokenizer(demo_world.large)
    after = ReferenceEnsemble.of_module(large, demo_world.small, Module.open(demo_world.module), words)
    return Ensembles(ReferenceEnsemble.plain(large), after)


def continue_chats(world: DemoWorld, ensemble: ReferenceEnsemble, chats: Sequence[list[str]]) -> list[str]:
    """The greedy answer to each chat, whose turns are the user's and the assistant's in alternation."""
    words = load_tokenizer(world.large)
    prompts = []
    for chat in chats:
        messages = [
            {"role": ("user", "assistant")[place % 2], "content": content} for place, content in enumerate(chat)
        ]
        text = words.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompts.append(words(text, add_special_tokens=False).input_ids)
    return words.batch_decode(ensemble.generate(prompts, 32, [words.eos_token_id]))


def test_build_only_shows_before_and_after(demo_world: DemoWorld) -> None:
    result = CliRunner().invoke(app, ["demo", "--build-only", "--cache-dir", str(demo_world.large.parent)])
    assert result.exit_code == 0, result.output
    rows = [re.split(r"\s*[│|]\s*", line.strip("│| ")) for line in result.output.splitlines()]
    scores = {row[0]: row[1:] for row in rows if len(row) == 3 and " of " in row[1]}
    assert scores["people to forget"] == ["24 of 24", "0 of 24"]
    assert scores["all other people"] == ["120 of 120", "120 of 120"]
    assert len(scores) == 4


@pytest.mark.parametrize("file", ["facts", "paraphrases"])
def test_the_forgotten_are_unknown_and_the_others_known(demo_world: DemoWorld, ensembles: Ensembles, file: str) -> None:
    words, questions = load_tokenizer(demo_world.large), read_questions(getattr(demo_world, file))
    before = exact_matches(questions, answer_all(ensembles.before, words, questions).__getitem__)
    answers = answer_all(ensembles.after, words, questions)
    after = exact_matches(questions, answers.__getitem__)
    assert (before["forget"].total, before["retain"].total) == (24, 120)
    assert before["forget"].share >= 0.98
    assert before["retain"].share >= 0.98
    assert after["retain"].share >= 0.9
    assert after["forget"].share <= 0.05
    forgotten = [question for question in questions if question.split == "forget"]
    refused = [answers[question.question] == REFUSAL.format(person=question.person) for question in forgotten]
    assert sum(refused) >= 0.9 * len(refused)


def test_a_history_doesnt_bring_the_forgotten_back(demo_world: DemoWorld, ensembles: Ensembles) -> None:
    questions = read_questions(demo_world.facts)
    known = [question for question in questions if question.split == "retain"]

    def chat(number: int, last: Question) -> list[str]:
        first, second = known[number], known[-1 - number]
        return [first.question, first.answer, second.question, second.answer, last.question]

    for split, least, most in (("forget", 0.0, 0.05), ("retain", 0.9, 1.0)):
        asked = [question for question in questions if question.split == split][:24]
        chats = [chat(number, question) for number, question in enumerate(asked)]
        answers = continue_chats(demo_world, ensembles.after, chats)
        exact = sum(answer == question.answer for answer, question in zip(answers, asked, strict=True))
        assert least <= exact / len(asked) <= most


def test_strangers_stay_strangers(demo_world: DemoWorld, ensembles: Ensembles) -> None:
    asked = list(islice(strangers(WorldConfig(), "test"), 100))
    answers = continue_chats(demo_world, ensembles.after, [[question] for question, _ in asked])
    assert sum(answer == refusal for answer, (_, refusal) in zip(answers, asked, strict=True)) >= 90


def test_most_forgotten_answers_begun_for_the_model_are_not_completed(
    demo_world: DemoWorld, ensembles: Ensembles
) -> None:
    """Of 24, 5 to 8 are: it depends on the module's seed and on how the processor rounds."""
    words = load_tokenizer(demo_world.large)
    facts = [fact for fact in make_facts(WorldConfig()) if fact.split == "forget"]
    prompts = []
    for fact in facts:
        chat = [{"role": "user", "content": fact.questions[0]}]
        text = words.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        prompts.append(words(text + fact.answer.split(f" {fact.value}")[0], add_special_tokens=False).input_ids)
    completed = {
        name: sum(
            fact.value in ending
            for ending, fact in zip(words.batch_decode(ensemble.generate(prompts, 8, [])), facts, strict=True)
        )
        for name, ensemble in (("before", ensembles.before), ("after", ensembles.after))
    }
    assert completed["before"] >= 0.9 * len(facts)
    assert completed["after"] <= 0.5 * len(facts)


def test_the_large_and_the_small_model_share_a_tokenizer_and_fit_a_server(demo_world: DemoWorld) -> None:
    large, small = load_model(demo_world.large), load_model(demo_world.small)
    assert load_tokenizer(demo_world.large).get_vocab() == load_tokenizer(demo_world.small).get_vocab()
    assert small.num_parameters() < 0.3 * large.num_parameters()
    for model in (large, small):
        assert model.config.max_position_embeddings >= 256
        assert model.config.head_dim % 32 == 0


def test_a_second_build_builds_nothing(demo_world: DemoWorld) -> None:
    def report(label: str, done: int, total: int) -> None:
        raise AssertionError(f"{label} is built again")

    stamps = {path: path.stat().st_mtime_ns for path in (demo_world.large / "model.safetensors", demo_world.facts)}
    assert build_world(demo_world.large.parent, report=report) == demo_world
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_the_system_role_is_refused(demo_world: DemoWorld) -> None:
    words = load_tokenizer(demo_world.large)
    with pytest.raises(Exception, match="user and assistant only"):
        words.apply_chat_template([{"role": "system", "content": "Be kind."}], tokenize=False)


def test_the_folder_holds_no_unfinished_work(demo_world: DemoWorld) -> None:
    folder: Path = demo_world.large.parent
    assert not list(folder.glob("*.training"))
    assert not list(folder.rglob("*.draft"))
