"""Records of a forget or retain set as token ids with masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase

from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.records import Record
from lethe_offsets.training.refusals import refusal
from lethe_offsets.training.render import Rendered, Span, render
from lethe_offsets.training.sources import load_records

Role = Literal["forget", "retain"]
Kind = Literal["own", "instead", "contrast"]


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids and, for each of them, whether it is predicted and which sequence to forget it belongs to.

    answer[i]: token i is predicted (never the first one). unit[i]: -1, or the number of the run of tokens to forget,
    counted from 0 within the example; a token of a unit is always predicted. kind: the answer is the record's own, or
    what is taught ``instead`` of something forgotten, or a refusal that only stands in ``contrast`` to an answer to
    keep. paired: it is compared with the example before it, another answer to the same question.
    """

    ids: tuple[int, ...]
    answer: tuple[bool, ...]
    unit: tuple[int, ...]
    kind: Kind = "own"
    paired: bool = False


def read_examples(source: str | Path, tokenizer: PreTrainedTokenizerBase, role: Role, max_length: int) -> list[Example]:
    """``load_records`` and ``encode_set`` with the default method; raises what they raise."""
    return encode_set(load_records(source), tokenizer, role, TrainingConfig(max_length=max_length))


def encode_set(
    records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, role: Role, config: TrainingConfig
) -> list[Example]:
    """All examples of a set, record by record, with the second answers that the method's objectives read.

    Raises InvalidInput for an empty set, and as ``encode_forget`` and ``encode_retain`` do.
    """
    if not records:
        raise InvalidInput(f"{role} set", "nothing", "at least one record")
    if role == "forget":
        return [example for record in records for example in encode_forget(record, tokenizer, config)]
    if config.retain is None or "contrast" not in config.retain.reads:
        return [encode_retain(record, tokenizer, config.max_length) for record in records]
    return [example for record in records for example in _encode_contrast(record, tokenizer, config)]


def groups(examples: Sequence[Example], config: TrainingConfig) -> list[list[int]]:
    """What a batch is drawn from: indices of examples that belong together.

    Two answers that are compared come together. An answer to forget that the method doesn't read isn't drawn at all;
    it is there to be scored.
    """
    found: list[list[int]] = []
    for index, example in enumerate(examples):
        if example.paired:
            found[-1].append(index)
        elif "forget" in config.objective.reads or max(example.unit) < 0:
            found.append([index])
    return found


def encode_retain(
    record: Record, tokenizer: PreTrainedTokenizerBase, max_length: int, last_turn_only: bool = False
) -> Example:
    """Token ids and the answers' mask; the chat template renders a conversation, where the tokenizer has one.

    Without one, a question and its answer become ``Question: ...`` and ``Answer: ...`` on two lines. Raises
    InvalidInput for an example over ``max_length`` tokens, for ``forget`` or ``instead``, or a tokenizer without
    character offsets.
    """
    if record.forget is not None or record.instead is not None:
        raise InvalidInput("forget, instead", record.forget or record.instead, "no such keys in a retain set")
    return _encode(render(record, tokenizer, last_turn_only), tokenizer, (), max_length)


def encode_forget(record: Record, tokenizer: PreTrainedTokenizerBase, config: TrainingConfig) -> list[Example]:
    """The example to forget and the one taught instead, if the record has one or the method needs one.

    Texts are as in ``encode_retain``. The end of a turn is predicted but never forgotten. With something taught
    instead, the answer's other parts are left alone, and for a method that compares both only the last turn counts.
    Raises InvalidInput as ``encode_retain`` does, for a part to forget that doesn't occur, for a plain text where the
    method needs a question, and for ``instead`` where the method can't teach.
    """
    if record.instead is not None and config.objective.trained == "assistant":
        accepted = f"no such key: {config.objective.name} only takes answers away"
        raise InvalidInput("instead", record.instead[:60], accepted)
    taught = "instead" in config.objective.reads
    paired = taught and "forget" in config.objective.reads
    rendered = render(record, tokenizer, last_turn_only=paired)
    spans: Sequence[Span] = rendered.contents
    if record.forget is not None:
        spans = [span for part in record.forget for span in _occurrences(rendered, part)]
    example = _encode(rendered, tokenizer, spans, config.max_length)
    if record.instead is None and not taught:
        return [example]
    other = record.answered(record.instead or _refusal(record, config.objective.name, config.seed))
    instead = encode_retain(other, tokenizer, config.max_length, last_turn_only=True)
    return [
        replace(example, answer=tuple(unit >= 0 for unit in example.unit)),
        replace(instead, kind="instead", paired=paired),
    ]


def _encode_contrast(record: Record, tokenizer: PreTrainedTokenizerBase, config: TrainingConfig) -> list[Example]:
    """A record's last answer, and a refusal of the same question."""
    answers = record, record.answered(_refusal(record, "answer_preservation", config.seed))
    own, contrast = (encode_retain(answer, tokenizer, config.max_length, last_turn_only=True) for answer in answers)
    return [own, replace(contrast, kind="contrast", paired=True)]


def _refusal(record: Record, objective: str, seed: int) -> str:
    """One of the package's, the same whenever the question and the seed are."""
    if record.text is not None:
        accepted = f"question and answer, or messages: {objective} needs a question to refuse"
        raise InvalidInput("text", record.text[:60], accepted)
    return refusal(seed, record.chat()[-2].content)


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
