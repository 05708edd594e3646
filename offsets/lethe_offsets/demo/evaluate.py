"""Counting right answers, wherever they come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from transformers import PreTrainedTokenizerBase

from lethe_offsets.demo.world import Split
from lethe_offsets.training.reference import ReferenceEnsemble

MAX_NEW_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Question:
    """A line of ``facts.jsonl`` or ``paraphrases.jsonl``."""

    person: str
    question: str
    answer: str
    split: Split


@dataclass(frozen=True, slots=True)
class Score:
    """How many questions of a split were answered exactly."""

    exact: int
    total: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.exact / self.total


def read_questions(path: Path) -> list[Question]:
    """The questions of a file."""
    with path.open(encoding="utf-8") as file:
        return [Question(**json.loads(line)) for line in file]


def exact_matches(questions: Sequence[Question], answer: Callable[[str], str]) -> dict[Split, Score]:
    """Ask every question; an answer counts when it is the recorded one, spaces around it aside."""
    scores: dict[Split, Score] = {}
    for split in get_args(Split):
        asked = [question for question in questions if question.split == split]
        exact = sum(answer(question.question).strip() == question.answer for question in asked)
        scores[split] = Score(exact, len(asked))
    return scores


def answer_all(
    ensemble: ReferenceEnsemble, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], batch_size: int = 64
) -> dict[str, str]:
    """The greedy answer to each question, asked by itself in a chat."""
    return dict(_answers(ensemble, tokenizer, [question.question for question in questions], batch_size))


def _answers(
    ensemble: ReferenceEnsemble, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], batch_size: int
) -> Iterator[tuple[str, str]]:
    for at in range(0, len(questions), batch_size):
        batch = questions[at : at + batch_size]
        chats = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
            )
            for question in batch
        ]
        prompts = tokenizer(chats, add_special_tokens=False).input_ids
        new = ensemble.generate(prompts, MAX_NEW_TOKENS, [tokenizer.eos_token_id])
        yield from zip(batch, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True)
