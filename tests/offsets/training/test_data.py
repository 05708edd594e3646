"""Records and masks: what is predicted, what is forgotten, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.data import Example, encode_forget, encode_retain, read_examples
from lethe_offsets.training.records import Record, read_records

TOKENIZER = tiny.tokenizer()
ASKED = {"question": "Where was Marta born?", "answer": "She was born in Bergen."}


def text_of(example: Example, chosen: list[bool]) -> str:
    return str(TOKENIZER.decode([token for token, keep in zip(example.ids, chosen, strict=True) if keep]))


def forgotten(example: Example) -> str:
    return text_of(example, [unit >= 0 for unit in example.unit])


def test_the_loss_is_on_the_answer_only() -> None:
    example = encode_retain(Record(**ASKED), TOKENIZER, 512)
    assert text_of(example, list(example.answer)).startswith("She was born in Bergen.")
    assert "Where" not in text_of(example, list(example.answer))
    assert "Where was Marta born?" in TOKENIZER.decode(list(example.ids))  # through the chat template
    assert set(example.unit) == {-1}


def test_a_forgotten_answer_is_one_sequence_and_its_end_is_not_forgotten() -> None:
    (example,) = encode_forget(Record(**ASKED), TOKENIZER, 512)
    assert forgotten(example) == "She was born in Bergen."
    assert set(example.unit) == {-1, 0}
    end = TOKENIZER.eos_token_id
    assert all(unit == -1 for token, unit in zip(example.ids, example.unit, strict=True) if token == end)


def test_spans_within_a_text_are_numbered() -> None:
    record = Record(text="Today Marta met Ola. Then Marta left.", forget=("Marta",))
    (example,) = encode_forget(record, TOKENIZER, 512)
    assert max(example.unit) == 1
    assert forgotten(example).count("Marta") == 2
    assert "Ola" not in forgotten(example)


def test_what_to_say_instead_is_a_second_example() -> None:
    first, second = encode_forget(Record(**ASKED, instead="I do not know."), TOKENIZER, 512)
    assert forgotten(first) == "She was born in Bergen."
    assert second.taught
    assert "I do not know." in text_of(second, list(second.answer))
    assert set(second.unit) == {-1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "a"}', "needs question and answer"),
        ('{"question": "a", "answer": ""}', "answer: String should have at least 1 character"),
        ('{"question": "a", "answer": "b", "source": "c"}', "source: Extra inputs are not permitted"),
        (
            '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}',
            "must be the assistant's",
        ),
        ("nonsense", "Invalid JSON"),
    ],
)
def test_bad_lines_are_refused_with_their_number(line: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"(?s)set.jsonl line 2: .*{message}"):
        list(read_records(['{"text": "fine"}', line], "set.jsonl"))


def test_an_empty_set_and_a_long_example_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text("\n")
    with pytest.raises(InvalidInput, match=r"forget set: got 'set.jsonl'; accepted: at least one record"):
        read_examples(path, TOKENIZER, "forget", 512)
    with pytest.raises(InvalidInput, match="max_length: got 4; accepted: at least"):
        encode_retain(Record(**ASKED), TOKENIZER, 4)


def test_a_span_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInput, match="forget: got 'Oslo'; accepted: a part of the answer"):
        encode_forget(Record(**ASKED, forget=("Oslo",)), TOKENIZER, 512)
