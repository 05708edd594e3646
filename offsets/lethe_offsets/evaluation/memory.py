"""What a model has already said, so that metrics which ask the same ask it once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lethe_offsets.evaluation.models import Judged, Pair, Scored
from lethe_offsets.training.progress import Report

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one model; it lasts as long as the process."""

    scores: dict[tuple[Ids, Ids, bool], Scored] = field(default_factory=dict)
    answers: dict[tuple[Ids, int], str] = field(default_factory=dict)

    def score(self, judged: Judged, pairs: Sequence[Pair], whole: bool, report: Report) -> list[Scored]:
        """As ``Judged.score``."""
        keys = [(tuple(prompt), tuple(rest), whole) for prompt, rest in pairs]
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in self.scores}
        if new:
            self.scores.update(zip(new, judged.score(list(new.values()), whole, report), strict=True))
        return [self.scores[key] for key in keys]

    def answer(self, judged: Judged, prompts: Sequence[list[int]], max_tokens: int, report: Report) -> list[str]:
        """The most probable answers, as ``Judged.generate``."""
        keys = [(tuple(prompt), max_tokens) for prompt in prompts]
        new = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self.answers}
        if new:
            found = judged.generate(list(new.values()), max_tokens, report=report)
            self.answers.update((key, answers[0]) for key, answers in zip(new, found, strict=True))
        return [self.answers[key] for key in keys]
