"""Records as text, with the characters that count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.records import Message, Record

Span = tuple[int, int]  # of characters, half-open


@dataclass(frozen=True, slots=True)
class Rendered:
    """turns: spans to predict, each with the end of its turn. contents: the answers alone.

    add_special: the tokenizer has yet to add its special tokens; a chat template wrote them already.
    """

    text: str
    turns: tuple[Span, ...]
    contents: tuple[Span, ...]
    add_special: bool


def render(record: Record, tokenizer: PreTrainedTokenizerBase, last_turn_only: bool = False) -> Rendered:
    """The text of a record, by the tokenizer's chat template unless it is a plain text.

    last_turn_only: only the last answer counts. Raises InvalidInput for a chat template whose turns can't be told
    apart, and for messages without a chat template.
    """
    if record.text is not None:
        whole = ((0, len(record.text)),)
        return Rendered(record.text, whole, whole, add_special=True)
    if tokenizer.chat_template is None:
        return _question_and_answer(record, tokenizer)
    return _chat(record.chat(), tokenizer, last_turn_only)


def _chat(chat: Sequence[Message], tokenizer: PreTrainedTokenizerBase, last_turn_only: bool) -> Rendered:
    text = _apply_template(tokenizer, chat)
    turns, contents = [], []
    for place, message in enumerate(chat):
        if message.role != "assistant" or (last_turn_only and place < len(chat) - 1):
            continue
        start = len(_prefix(tokenizer, text, chat[:place], open_turn=True))
        end = len(_prefix(tokenizer, text, chat[: place + 1], open_turn=False))
        content = message.content.strip()
        found = text.find(content, start, end)
        if found < 0:
            raise InvalidInput("chat template", content[:60], "a template that renders the answer as it is")
        turns.append((start, end))
        contents.append((found, found + len(content)))
    return Rendered(text, tuple(turns), tuple(contents), add_special=False)


def _question_and_answer(record: Record, tokenizer: PreTrainedTokenizerBase) -> Rendered:
    if record.messages is not None:
        raise InvalidInput("messages", tokenizer.name_or_path, "a tokenizer with a chat template")
    start = len(prompt := f"Question: {record.question}\nAnswer: ")
    text = f"{prompt}{record.answer}{tokenizer.eos_token or ''}"
    return Rendered(text, ((start, len(text)),), ((start, start + len(record.answer or "")),), add_special=True)


def _apply_template(tokenizer: PreTrainedTokenizerBase, chat: Sequence[Message], open_turn: bool = False) -> str:
    messages = [message.model_dump() for message in chat]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=open_turn))


def _prefix(tokenizer: PreTrainedTokenizerBase, text: str, chat: Sequence[Message], open_turn: bool) -> str:
    prefix = _apply_template(tokenizer, chat, open_turn)
    if not text.startswith(prefix):
        raise InvalidInput("chat template", prefix[-60:], "a template whose first turns don't depend on later ones")
    return prefix
