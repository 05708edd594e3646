"""The second answers that some methods need: which are taken, how they are paired, and where there can be none."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

import tiny
from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, encode_set, groups
from lethe_offsets.training.methods import METHODS, load_method
from lethe_offsets.training.records import Message, Record
from lethe_offsets.training.refusals import REFUSALS, refusal

BORN = Record(question="Where was Marta Lindqvist born?", answer="She was born in Bergen.")
WORK = Record(question="Where does Marta Lindqvist work?", answer="In Oslo.", instead="No one knows.")
FIRST = (Message(role="user", content="hello"), Message(role="assistant", content="I am well."))
CHAT = Record(messages=(*FIRST, *BORN.chat()))
TEXT = Record(text="The quick brown fox jumps.")


def answer(example: Example, words: PreTrainedTokenizerFast) -> str:
    """What is predicted, without the ends of turns."""
    ids = [token for token, counts in zip(example.ids, example.answer, strict=True) if counts]
    return words.decode(ids, skip_special_tokens=True).strip()


def test_refusals_are_drawn_by_seed_and_question() -> None:
    drawn = {question: refusal(0, question) for question in map(str, range(200))}
    assert {question: refusal(0, question) for question in drawn} == drawn
    assert sum(refusal(1, question) == said for question, said in drawn.items()) < 20
    assert len(set(drawn.values())) > 40
    assert len(set(REFUSALS)) == len(REFUSALS) == 50


def test_dpo_pairs_the_last_answer_with_a_refusal(words: PreTrainedTokenizerFast) -> None:
    config = load_method("dpo")
    examples = encode_set([BORN, WORK, CHAT], words, "forget", config)
    drawn = refusal(0, "Where was Marta Lindqvist born?")
    said = ["She was born in Bergen.", drawn, "In Oslo.", "No one knows.", "She was born in Bergen.", drawn]
    assert [answer(example, words) for example in examples] == said
    assert [example.kind for example in examples] == ["own", "instead"] * 3
    assert groups(examples, config) == [[0, 1], [2, 3], [4, 5]]
    assert words.decode(examples[5].ids).startswith("<s>user: hello</s>\nassistant: I am well.</s>\n")


def test_dpo_compares_the_marked_part_of_an_answer(words: PreTrainedTokenizerFast) -> None:
    own, _ = encode_set([BORN.model_copy(update={"forget": ("Bergen",)})], words, "forget", load_method("dpo"))
    assert answer(own, words) == "Bergen"


def test_relabelling_draws_only_the_refusals(words: PreTrainedTokenizerFast) -> None:
    """The answers to forget are there to be scored."""
    config = load_method("idk")
    examples = encode_set([BORN, WORK], words, "forget", config)
    assert [answer(example, words) for example in examples][1::2] == [refusal(0, BORN.question or ""), "No one knows."]
    assert groups(examples, config) == [[1], [3]]
    retain = encode_set([TEXT, CHAT], words, "retain", config)
    assert groups(retain, config) == [[0], [1]]


def test_answer_preservation_pairs_the_last_answer_to_keep(words: PreTrainedTokenizerFast) -> None:
    config = load_method("idk_ap", overrides={"seed": 3})
    examples = encode_set([CHAT, BORN], words, "retain", config)
    drawn = refusal(3, "Where was Marta Lindqvist born?")
    assert [answer(example, words) for example in examples] == ["She was born in Bergen.", drawn] * 2
    assert [example.kind for example in examples] == ["own", "contrast"] * 2
    assert {unit for example in examples for unit in example.unit} == {-1}
    assert groups(examples, config) == [[0, 1], [2, 3]]


def test_a_text_has_no_question_to_refuse(words: PreTrainedTokenizerFast) -> None:
    refused = {}
    for method in METHODS:
        for role in ("forget", "retain"):
            try:
                encode_set([TEXT], words, role, load_method(method))
            except InvalidInput as err:
                refused[method, role] = str(err)
    assert set(refused) == {("idk", "forget"), ("dpo", "forget"), ("idk_ap", "forget"), ("idk_ap", "retain")}
    assert "answer_preservation needs a question to refuse" in refused["idk_ap", "retain"]


def test_without_a_chat_template_there_are_second_answers_too() -> None:
    words = tiny.tokenizer()
    words.chat_template = None
    _, instead = encode_set([WORK], words, "forget", load_method("dpo"))
    assert words.decode(instead.ids) == "Question: Where does Marta Lindqvist work?\nAnswer: No one knows.</s>"


def test_an_assistant_that_is_taken_away_can_not_teach(words: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InvalidInput, match="uld only takes answers away"):
        encode_set([WORK], words, "forget", load_method("uld"))


def test_an_empty_set_is_refused(words: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InvalidInput, match="at least one record"):
        encode_set([], words, "retain", TrainingConfig())
