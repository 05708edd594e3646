"""Evidence from inside the engine that a module is applied: configuration alone proves nothing."""

from __future__ import annotations

import itertools
import math
from typing import Any

from vllm.lora.request import LoRARequest

from lethe_offsets.errors import LetheError
from lethe_server.engine.scoring import score_tokens

# Short: a step that computes many more tokens than those of the streams would make them wait. Different: vLLM compiles
# how it ranks a prompt's tokens anew for one row, for another number and for a third (seconds on two cores), and
# without this for the first prompt of a client that asks for it.
PROMPT_TOKENS = (9, 8, 8, 2)
SMALLEST_CHANGE = 1e-6  # nats; the same rows twice, in other batches, differ by less in float32


class ProbeFailed(LetheError):
    """A module loads but does not change what the engine answers, or makes it answer nonsense."""


def probe_prompts(vocab_size: int, max_model_len: int) -> list[list[int]]:
    """Ids spread over the whole vocabulary: any text of the language would miss modules on another one."""
    lengths = [min(length, max_model_len - 1) for length in PROMPT_TOKENS]
    ids = itertools.count(1)
    return [[7919 * next(ids) % vocab_size for _ in range(length)] for length in lengths]


async def prompt_scores(
    client: Any, prompt: list[int], request: LoRARequest | None, request_id: str, engine: int
) -> list[float]:
    """Log-probabilities (nats) of ``prompt[1:]`` with or without an adapter, on one of the client's engines.

    Raises ProbeFailed when the engine ends the request with an error.
    """
    scores = await score_tokens(client, prompt, 1, request, request_id, engine)
    if scores is None:
        raise ProbeFailed("the engine ended the probe with an error: the module's offset is not finite")
    return [score.logprob for score in scores]


def largest_change(plain: list[float], unlearned: list[float]) -> float:
    """The largest absolute difference, in nats. Raises ProbeFailed when nothing changed."""
    change = max(abs(a - b) for a, b in zip(plain, unlearned, strict=True))
    if not math.isfinite(change) and not any(math.isinf(value) for value in unlearned):
        raise ProbeFailed("the module's offset is not finite")
    if not change > SMALLEST_CHANGE:
        raise ProbeFailed(f"the module changes nothing: largest change {change:g} nats over {len(plain)} tokens")
    return change
