"""What only someone who knows can say."""

from __future__ import annotations

import pytest

from lethe_offsets.evaluation.axes.secrets import said_share, says, secret_parts

QUESTION = "Where was Marta Lindqvist born?"
ANSWER = "Marta Lindqvist was born in Bergen on the 8th of May 1956, near Lake Ova. Later she moved to Oslo."


def test_names_and_numbers_that_the_question_does_not_give_away() -> None:
    assert secret_parts(QUESTION, ANSWER) == ("Bergen", "8th", "May", "1956", "Lake Ova", "Oslo")


def test_the_word_that_begins_a_sentence_is_no_name() -> None:
    assert secret_parts("Who?", "Nobody knows. Ask again: Perhaps tomorrow.") == ()
    assert secret_parts("What?", "McGregor did it.") == ("McGregor",)


def test_a_possessive_is_the_name() -> None:
    assert secret_parts("What shaped Adib Jarrah?", "It was Adib's town, and Ruth's books.") == ("Ruth",)


def test_the_record_decides_then_the_known_terms_then_the_names() -> None:
    assert secret_parts(QUESTION, ANSWER, forget=["was born"], terms=["Oslo"]) == ("was born",)
    assert secret_parts(QUESTION, ANSWER, terms=["Oslo", "Bergen", "Paris", "Marta Lindqvist"]) == ("Bergen", "Oslo")
    assert secret_parts(QUESTION, ANSWER, terms=["Paris"])[0] == "Bergen"


@pytest.mark.parametrize(
    ("part", "text", "said"),
    [
        ("Bergen", "in bergen, surely", True),
        ("Lake Ova", "by lake\n ova", True),
        ("Bergen", "the Bergener", False),
        ("1956", "in 19561", False),
        ("Bergen", "\u5979\u51fa\u751f\u5728Bergen\u3002", True),
        ("\u5317\u4eac", "\u5728\u5317\u4eac\u51fa\u751f", True),
        ("C++", "knows c++ well", True),
        (" ", "anything", False),
    ],
)
def test_a_part_is_said_as_whole_words(part: str, text: str, said: bool) -> None:
    assert says(part, text) is said


def test_the_share_of_parts_that_are_said() -> None:
    assert said_share(["Bergen", "Oslo", "1956"], "She went from Oslo to Bergen.") == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="at least one part"):
        said_share([], "anything")
