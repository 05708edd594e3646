"""Lines of a forget or retain set."""

from __future__ import annotations

import pytest

from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.records import Message, Record, read_records


def test_the_three_forms_and_blank_lines() -> None:
    lines = [
        '{"question": "Where?", "answer": "Here."}\n',
        "\n",
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "instead": "c"}\n',
        '{"text": "Some text.", "forget": ["text"]}',
    ]
    records = list(read_records(lines, "set.jsonl"))
    assert records[0].chat() == (Message(role="user", content="Where?"), Message(role="assistant", content="Here."))
    assert records[1].chat()[1].content == "b"
    assert records[2] == Record(text="Some text.", forget=("text",))
    assert records[2].chat() == ()


def test_another_answer_takes_the_place_of_the_last_one() -> None:
    turns = tuple(Message(role=role, content=role) for role in ("user", "assistant", "user", "assistant"))
    marked = Record(messages=turns, forget=("assistant",), instead="c")
    assert marked.answered("d") == Record(messages=(*turns[:3], Message(role="assistant", content="d")))
    asked = Record(question="Where?", answer="Here.")
    assert asked.answered("There.") == Record(question="Where?", answer="There.")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Invalid JSON"),
        ('{"question": "a"}', "has question"),
        ('{"question": "a", "answer": "b", "text": "c"}', "has answer, question, text"),
        ("{}", "has none of them"),
        ('{"text": "a", "forgets": ["a"]}', "forgets"),
        ('{"text": "a", "forget": []}', "forget"),
        ('{"question": "a", "answer": ""}', "answer: must not be empty"),
        ('{"question": "a", "answer": " \\n"}', "answer: must not be empty"),
        ('{"question": "", "answer": " "}', "question: must not be empty; answer: must not be empty"),
        (
            '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]}',
            "messages.1.content",
        ),
        ('{"text": "a", "instead": "b"}', "instead needs question and answer, or messages"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}', "the assistant's"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "robot", "content": "b"}]}', "messages.1.role"),
    ],
)
def test_a_bad_line_is_named(line: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        list(read_records(['{"text": "fine"}', line], "set.jsonl"))
    assert refused.value.field == "set.jsonl line 2"
    assert said in refused.value.accepted
