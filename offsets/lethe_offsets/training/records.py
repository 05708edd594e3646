"""Lines of a forget or retain set.

A line is one of::

    {"question": "...", "answer": "..."}
    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}, ...]}
    {"text": "..."}

and in a forget set may hold

- ``"forget": ["...", ...]``: only these parts of the answers (of the whole text in the third form) are to be forgotten,
  wherever they occur; the rest is retained.
- ``"instead": "..."``: what to answer in the last turn, taught beside the forgetting; the rest is then left alone.
  The methods that need another answer (idk, dpo, idk_ap) take a refusal where it is missing; they refuse plain texts,
  which have no question.

Any other key is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from lethe_offsets.errors import InvalidInput


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


Text = Annotated[str, AfterValidator(_said)]


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: Text


class Record(BaseModel):
    """One line of a forget or retain set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: Text | None = None
    answer: Text | None = None
    messages: tuple[Message, ...] | None = Field(default=None, min_length=2)
    text: Text | None = None
    forget: tuple[str, ...] | None = Field(default=None, min_length=1)
    instead: Text | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Record:
        given = {name for name in ("question", "answer", "messages", "text") if getattr(self, name) is not None}
        if given not in ({"question", "answer"}, {"messages"}, {"text"}):
            names = ", ".join(sorted(given)) or "none of them"
            raise ValueError(f"needs question and answer, or messages, or text; has {names}")
        if self.messages and self.messages[-1].role != "assistant":
            raise ValueError("the last message must be the assistant's")
        if self.text is not None and self.instead is not None:
            raise ValueError("instead needs question and answer, or messages")
        return self

    def chat(self) -> tuple[Message, ...]:
        """The conversation; empty for a plain text."""
        if self.messages is not None:
            return self.messages
        if self.question is None or self.answer is None:
            return ()
        return Message(role="user", content=self.question), Message(role="assistant", content=self.answer)

    def answered(self, answer: str) -> Record:
        """The same conversation with another last answer, and nothing to forget. Not for a plain text."""
        if self.question is not None:
            return Record(question=self.question, answer=answer)
        return Record(messages=(*self.chat()[:-1], Message(role="assistant", content=answer)))


def read_records(lines: Iterable[str], source: str) -> Iterator[Record]:
    """The records of JSON lines; blank lines are skipped. Raises InvalidInput with the line's number."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield Record.model_validate_json(line)
            except ValidationError as err:
                raise unsound(err, f"{source} line {number}", line.strip()) from err


def unsound(err: ValidationError, place: str, shown: str) -> InvalidInput:
    """What is wrong with the record at ``place``, all of it."""
    problems = "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'record'}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in err.errors()
    )
    return InvalidInput(place, shown[:80], problems)
