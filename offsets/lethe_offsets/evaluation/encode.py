"""Questions and answers as token ids: the text and the tokens that modules are trained on."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from lethe_offsets.evaluation.models import Pair
from lethe_offsets.training.data import encode_retain
from lethe_offsets.training.records import Message, Record

UNBOUNDED = 2**31
STAND_IN = "The"  # an answer whose tokens are cut off again


def encode_pair(tokenizer: PreTrainedTokenizerBase, question: str, answer: str, before: Sequence[Message] = ()) -> Pair:
    """A question's prompt and its answer, end of turn included. before: the turns before the question.

    Raises InvalidInput as ``encode_retain`` does.
    """
    if before:
        turns = (*before, Message(role="user", content=question), Message(role="assistant", content=answer))
        record = Record(messages=turns)
    else:
        record = Record(question=question, answer=answer)
    example = encode_retain(record, tokenizer, UNBOUNDED, last_turn_only=True)
    start = example.answer.index(True)
    return list(example.ids[:start]), list(example.ids[start:])


def encode_prompt(tokenizer: PreTrainedTokenizerBase, question: str, before: Sequence[Message] = ()) -> list[int]:
    """A question's prompt, as it stands before every answer."""
    return encode_pair(tokenizer, question, STAND_IN, before)[0]
