"""Which tokens of a record count, and which of them are forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

import tiny
from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, encode_forget, encode_retain, groups, read_examples
from lethe_offsets.training.records import Message, Record

CONFIG = TrainingConfig(max_length=512)
CHAT = Record(
    messages=(
        Message(role="user", content="Where was Marta Lindqvist born?"),
        Message(role="assistant", content="She was born in Bergen."),
        Message(role="user", content="hello"),
        Message(role="assistant", content="I am well in Bergen."),
    )
)


def predicted(example: Example, words: PreTrainedTokenizerFast) -> str:
    return words.decode([token for token, counts in zip(example.ids, example.answer, strict=True) if counts])


def units(example: Example, words: PreTrainedTokenizerFast) -> list[str]:
    found: dict[int, list[int]] = {}
    for token, unit in zip(example.ids, example.unit, strict=True):
        found.setdefault(unit, []).append(token)
    return [words.decode(found[unit]) for unit in sorted(found) if unit >= 0]


def test_a_chat_predicts_answers_and_the_ends_of_turns(words: PreTrainedTokenizerFast) -> None:
    example = encode_retain(CHAT, words, 512)
    rendered = words.apply_chat_template([message.model_dump() for message in CHAT.chat()], tokenize=False)
    assert words.decode(example.ids) == rendered
    assert predicted(example, words) == "She was born in Bergen.</s>\n I am well in Bergen.</s>\n"
    assert set(example.unit) == {-1}


def test_answers_are_forgotten_whole_but_not_the_ends_of_turns(words: PreTrainedTokenizerFast) -> None:
    (example,) = encode_forget(CHAT, words, CONFIG)
    assert units(example, words) == ["She was born in Bergen.", " I am well in Bergen."]


def test_only_marked_parts_are_forgotten_each_as_a_sequence(words: PreTrainedTokenizerFast) -> None:
    (example,) = encode_forget(CHAT.model_copy(update={"forget": ("Bergen", "She")}), words, CONFIG)
    assert [unit.strip() for unit in units(example, words)] == ["She", "Bergen", "Bergen"]
    assert predicted(example, words).startswith("She was born")


def test_the_question_is_never_searched(words: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InvalidInput, match="letter for letter"):
        encode_forget(CHAT.model_copy(update={"forget": ("Marta",)}), words, CONFIG)


def test_instead_leaves_only_the_marked_parts_and_teaches_the_last_turn(words: PreTrainedTokenizerFast) -> None:
    record = CHAT.model_copy(update={"forget": ("Bergen",), "instead": "I do not know."})
    forgotten, taught = examples = encode_forget(record, words, CONFIG)
    assert predicted(forgotten, words).split() == ["Bergen", "Bergen"]
    assert [example.kind for example in examples] == ["own", "instead"]
    assert groups(examples, CONFIG) == [[0], [1]]
    assert predicted(taught, words) == " I do not know.</s>\n"
    assert "She was born in Bergen." in words.decode(taught.ids)


def test_a_text_predicts_everything_but_its_first_token(words: PreTrainedTokenizerFast) -> None:
    example = encode_retain(Record(text="The quick brown fox"), words, 512)
    assert example.answer == (False, *[True] * (len(example.ids) - 1))


def test_without_a_chat_template_a_question_and_its_answer_are_two_lines() -> None:
    words = tiny.tokenizer()
    words.chat_template = None
    example = encode_retain(Record(question="Where?", answer="In Oslo."), words, 512)
    assert words.decode(example.ids) == "Question: Where?\nAnswer: In Oslo.</s>"
    assert predicted(example, words).strip() == "In Oslo.</s>"
    with pytest.raises(InvalidInput, match="chat template"):
        encode_retain(CHAT, words, 512)


def test_what_a_retain_set_must_not_hold(words: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InvalidInput, match="retain set"):
        encode_retain(CHAT.model_copy(update={"forget": ("Bergen",)}), words, 512)


def test_a_long_example_is_refused_not_cut(words: PreTrainedTokenizerFast) -> None:
    length = len(encode_retain(CHAT, words, 512).ids)
    assert len(encode_retain(CHAT, words, length).ids) == length
    with pytest.raises(InvalidInput, match=f"at least {length}"):
        encode_retain(CHAT, words, length - 1)


def test_a_template_that_changes_earlier_turns_is_refused() -> None:
    words = tiny.tokenizer()
    words.chat_template = "{{ messages|length }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    with pytest.raises(InvalidInput, match="first turns"):
        encode_retain(CHAT, words, 512)


def test_a_file_becomes_examples(words: PreTrainedTokenizerFast, forget_file: Path, tmp_path: Path) -> None:
    assert len(read_examples(forget_file, words, "forget", 512)) == 2
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InvalidInput, match="at least one record"):
        read_examples(tmp_path / "empty.jsonl", words, "retain", 512)
