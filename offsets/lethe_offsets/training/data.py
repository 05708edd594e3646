"""Records of a forget or retain set as token ids with masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase

from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.records import Message, Record, read_records
from lethe_offsets.training.render import Rendered, Span, render

Role = Literal["forget", "retain"]


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids and, for each of them, whether it is predicted and which sequence to forget it belongs to.

    answer[i]: token i is predicted (never the first one). unit[i]: -1, or the number of the run of tokens to forget,
    counted from 0 within the example; a token of a unit is always predicted. taught: the answer is what to say
    instead of something forgotten.
    """

    ids: tuple[int, ...]
    answer: tuple[bool, ...]
    unit: tuple[int, ...]
    taught: bool = False


def read_examples(path: Path, tokenizer: PreTrainedTokenizerBase, role: Role, max_length: int) -> list[Example]:
    """The encoded examples of a JSON lines file. Raises InvalidInput for a bad line or an empty file."""
    with path.open(encoding="utf-8") as file:
        records = list(read_records(file, path.name))
    if not records:
        raise InvalidInput(f"{role} set", path.name, "at least one record")
    if role == "retain":
        return [encode_retain(record, tokenizer, max_length) for record in records]
    return [example for record in records for example in encode_forget(record, tokenizer, max_length)]


def encode_retain(record: Record, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Example:
    """Token ids and the answers' mask; the chat template renders a conversation, where the tokenizer has one.

    Without one, a question and its answer become ``Question: ...`` and ``Answer: ...`` on two lines. Raises
    InvalidInput for an example over ``max_length`` tokens, for ``forget`` or ``instead``, or a tokenizer without
    character offsets.
    """
    if record.forget is not None or record.instead is not None:
        raise InvalidInput("forget, instead", record.forget or record.instead, "no such keys in a retain set")
    return _encode(render(record, tokenizer), tokenizer, (), max_length)


def encode_forget(record: Record, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Example]:
    """The example to forget and, with ``instead``, the one to be taught; texts as in ``encode_retain``.

    The end of a turn is predicted but never forgotten. Raises InvalidInput as ``encode_retain`` does, and for a part
    to forget that doesn't occur.
    """
    rendered = render(record, tokenizer)
    spans: Sequence[Span] = rendered.contents
    if record.forget is not None:
        spans = [span for part in record.forget for span in _occurrences(rendered, part)]
    example = _encode(rendered, tokenizer, spans, max_length)
    if record.instead is None:
        return [example]
    messages = [*record.chat()[:-1], Message(role="assistant", content=record.instead)]
    taught = render(Record(messages=tuple(messages)), tokenizer, last_turn_only=True)
    return [
        replace(example, answer=tuple(unit >= 0 for unit in example.unit)),
        replace(_encode(taught, tokenizer, (), max_length), taught=True),
    ]


def _encode(rendered: Rendered, tokenizer: PreTrainedTokenizerBase, spans: Sequence[Span], max_length: int) -> Example:
    if not tokenizer.is_fast:
        raise InvalidInput("tokenizer", tokenizer.name_or_path, "a fast tokenizer: masks need character offsets")
    encoded = tokenizer(rendered.text, add_special_tokens=rendered.add_special, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    if len(ids) > max_length:
        raise InvalidInput("max_length", max_length, f"at least {len(ids)}, the tokens of {rendered.text[:60]!r}")
    answer = [place > 0 and _overlaps(offset, rendered.turns) for place, offset in enumerate(offsets)]
    forget = [predicted and _overlaps(offset, spans) for predicted, offset in zip(answer, offsets, strict=True)]
    if not any(answer):
        raise InvalidInput("answer", rendered.text[:60], "at least one token to predict")
    return Example(tuple(ids), tuple(answer), tuple(_number_runs(forget)))


def _occurrences(rendered: Rendered, part: str) -> list[Span]:
    found = []
    for start, end in rendered.contents:
        at = rendered.text.find(part, start, end) if part else -1
        while at >= 0:
            found.append((at, at + len(part)))
            at = rendered.text.find(part, at + len(part), end)
    if not found:
        raise InvalidInput("forget", part, "a part of the answer, letter for letter")
    return found


def _overlaps(offset: Span, spans: Sequence[Span]) -> bool:
    start, end = offset
    return start < end and any(start < span_end and end > span_start for span_start, span_end in spans)


def _number_runs(forget: Sequence[bool]) -> Iterator[int]:
    """-1 outside, and the number of the run inside."""
    run = -1
    for place, inside in enumerate(forget):
        run += inside and (place == 0 or not forget[place - 1])
        yield run if inside else -1
