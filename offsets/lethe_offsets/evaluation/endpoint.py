"""A judged model behind an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
from transformers import PreTrainedTokenizerBase

from lethe_offsets.errors import InvalidInput, LetheError
from lethe_offsets.evaluation.completions import Completions
from lethe_offsets.evaluation.models import Pair, Scored
from lethe_offsets.training.progress import Report, silent

CONCURRENCY = 32
SAMPLES_AT_ONCE = 64  # answers to one request
WHOLE = -1  # vLLM's word for the whole vocabulary

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Address:
    """Where a model is asked for. strength: another than the module's; only a Lethe server knows it."""

    url: str
    model: str
    api_key: str | None = None
    strength: float | None = None
    concurrency: int = CONCURRENCY

    def open(self) -> Completions:
        """Raises InvalidInput for an address that is none."""
        return Completions(self.url, self.model, self.api_key, self.strength)


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """whole: the server gives whole distributions. answering: the module's reference, where the server says it.

    Satisfies ``Judged``.
    """

    name: str
    address: Address
    tokenizer: PreTrainedTokenizerBase
    whole: bool
    answering: str | None = None

    @classmethod
    def open(cls, name: str, address: Address, tokenizer: PreTrainedTokenizerBase) -> Self:
        """A model that answers. Raises InvalidInput as ``Completions.prompt_logprobs``."""
        probe = [tokenizer.eos_token_id or 0] * 2

        async def ask() -> tuple[bool, str | None]:
            async with address.open() as endpoint:
                await endpoint.prompt_logprobs(probe, 1)
                answering = await endpoint.answering(probe)
                try:
                    await endpoint.prompt_logprobs(probe, WHOLE)
                except InvalidInput:  # more than this server, or this key, may give
                    return False, answering
                return True, answering

        return cls(name, address, tokenizer, *asyncio.run(ask()))

    @property
    def identity(self) -> str:
        return f"{self.address.url} {self.answering or self.address.model} {self.address.strength}"

    def score(self, pairs: Sequence[Pair], whole: bool = False, report: Report = silent) -> list[Scored]:
        """Raises InvalidInput and LetheError as ``Completions.prompt_logprobs``."""
        top_k = WHOLE if whole and self.whole else 1

        async def ask(endpoint: Completions, pair: Pair) -> Scored:
            prompt, rest = pair
            entries = await endpoint.prompt_logprobs([*prompt, *rest], top_k)
            return _scored(entries[len(prompt) :], rest, top_k == WHOLE)

        return self._ask_all(pairs, ask, lambda done: report("answers scored", done, len(pairs)))

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
        """Raises InvalidInput and LetheError as ``Completions.complete``."""
        parts = [
            (prompt, start, min(SAMPLES_AT_ONCE, num_samples - start))
            for prompt in prompts
            for start in range(0, num_samples, SAMPLES_AT_ONCE)
        ]

        async def ask(endpoint: Completions, part: tuple[list[int], int, int]) -> list[str]:
            prompt, start, count = part
            return await endpoint.complete(prompt, max_tokens, num=count, temperature=temperature, seed=seed + start)

        found = iter(self._ask_all(parts, ask, lambda done: report("answers written", done, len(parts))))
        count = math.ceil(num_samples / SAMPLES_AT_ONCE)
        return [[text.strip() for _ in range(count) for text in next(found)] for _ in prompts]

    def _ask_all(
        self, wanted: Sequence[T], ask: Callable[[Completions, T], Awaitable[Any]], done: Callable[[int], None]
    ) -> list[Any]:
        """The answer to each, ``concurrency`` of them at the same time; the first failure ends it."""

        async def run() -> list[Any]:
            found: dict[int, Any] = {}
            queue = iter(enumerate(wanted))  # shared: each task takes the next

            async def work(endpoint: Completions) -> None:
                for index, each in queue:
                    found[index] = await ask(endpoint, each)
                    done(len(found))

            async with self.address.open() as endpoint:
                await asyncio.gather(*(work(endpoint) for _ in range(self.address.concurrency)))
            return [found[index] for index in range(len(wanted))]

        return asyncio.run(run())


def _scored(entries: Sequence[Any], tokens: Sequence[int], whole: bool) -> Scored:
    """From a server's entries for a continuation's tokens."""
    try:
        rows = [{int(i): float(value["logprob"]) for i, value in entry.items()} for entry in entries]
        own = torch.tensor([row[token] for row, token in zip(rows, tokens, strict=True)])
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise LetheError(
            f"the server's prompt_logprobs lack a token that was sent ({type(err).__name__}: {err})"
        ) from err
    greedy = torch.tensor([value >= max(row.values()) for value, row in zip(own.tolist(), rows, strict=True)])
    if not whole:
        return Scored(own, greedy)
    logprobs = torch.tensor([list(row.values()) for row in rows])
    p = logprobs.exp()
    mean = (p * logprobs).sum(dim=-1)
    return Scored(own, greedy, -mean, (p * (logprobs - mean[:, None]).square()).sum(dim=-1).sqrt())
