"""What is judged: a model that scores given tokens and answers prompts, wherever it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lethe_offsets.training.progress import Report, silent

Pair = tuple[list[int], list[int]]  # token ids of a prompt, which isn't empty, and of what follows it


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A continuation of T tokens, on the CPU.

    logprobs [T]: float32, nats, of each token given the prompt and the tokens before it. greedy [T]: bool, the token is
    the most probable one. entropy [T]: nats, of the whole distribution: minus the mean of log p over the vocabulary
    under p. std [T]: its standard deviation. Both are None unless asked for, and where an endpoint doesn't give whole
    distributions.
    """

    logprobs: Tensor
    greedy: Tensor
    entropy: Tensor | None = None
    std: Tensor | None = None

    @property
    def mean(self) -> Tensor | None:
        """[T]: of log p over the vocabulary under p."""
        return None if self.entropy is None else -self.entropy

    @property
    def mean_logprob(self) -> float:
        """Nats for each token."""
        return float(self.logprobs.double().mean())

    @property
    def probability(self) -> float:
        """TOFU's: p of the whole continuation to the power of 1 / T."""
        return math.exp(self.mean_logprob)


class Judged(Protocol):
    """name: ``module``, ``target`` or ``retrained``. identity: what tells it from any other model of that name."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    def score(self, pairs: Sequence[Pair], whole: bool = False, report: Report = silent) -> list[Scored]:
        """One for each pair, in order. whole: with entropy and std, where they can be had."""
        ...

    def generate(
        self,
        prompts: Sequence[list[int]],
        max_tokens: int,
        *,
        num_samples: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
        report: Report = silent,
    ) -> list[list[str]]:
        """``num_samples`` answers to each prompt, without special tokens; the most probable one at temperature 0."""
        ...
