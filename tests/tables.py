"""A model whose every number is given, for arithmetic that is done by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase

from lethe_offsets.evaluation.models import Pair, Scored
from lethe_offsets.evaluation.sets import Item


@dataclass(frozen=True)
class Table:
    """probabilities: of each answer's tokens, by its text; ``answers`` are what it says to a question.

    Both are looked up in the text of the prompt and of what follows it. asked: what was scored and answered so far.
    """

    tokenizer: PreTrainedTokenizerBase
    probabilities: Mapping[str, Sequence[float]] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    name: str = "module"
    identity: str = "table"
    asked: list[object] = field(default_factory=list)

    def score(self, pairs: Sequence[Pair], whole: bool = False, report: object = None) -> list[Scored]:
        self.asked.extend(pairs)
        texts = [self.tokenizer.decode(rest, skip_special_tokens=True).strip() for _, rest in pairs]
        rows = [torch.tensor([math.log(p) for p in self.probabilities[text]]) for text in texts]
        return [Scored(row, row > math.log(0.5)) for row in rows]

    def generate(self, prompts: Sequence[list[int]], max_tokens: int, **_: object) -> list[list[str]]:
        self.asked.extend(prompts)
        texts = [self.tokenizer.decode(prompt) for prompt in prompts]
        return [[next(said for asked, said in self.answers.items() if asked in text)] for text in texts]


def question(text: str, answer: str, paraphrased: str | None = None, perturbed: Sequence[str] = ()) -> Item:
    return Item(text, answer, paraphrased_answer=paraphrased, perturbed_answers=tuple(perturbed))
