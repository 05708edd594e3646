"""Evidence from inside the engine that a module is applied: configuration alone proves nothing."""

from __future__ import annotations

import math
from typing import Any

from vllm import SamplingParams
from vllm.inputs import TokensPrompt
from vllm.lora.request import LoRARequest

from lethe_offsets.errors import LetheError

PROBE_TOKENS = 32
SMALLEST_CHANGE = 1e-6  # nats; the same rows twice, in other batches, differ by less in float32


class ProbeFailed(LetheError):
    """A module loads but does not change what the engine answers, or makes it answer nonsense."""


def probe_prompt(vocab_size: int, max_model_len: int) -> list[int]:
    """Ids spread over the whole vocabulary: any text of the language would miss modules on another one."""
    count = min(PROBE_TOKENS, max_model_len - 1)
    return [(7919 * (i + 1)) % vocab_size for i in range(count)]


async def prompt_scores(client: Any, prompt: list[int], request: LoRARequest | None, request_id: str) -> list[float]:
    """Log-probabilities (nats) of ``prompt[1:]`` under the engine with or without an adapter.

    Raises ProbeFailed when the engine ends the request with an error.
    """
    params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
    final = None
    async for output in client.generate(
        TokensPrompt(prompt_token_ids=prompt), params, request_id, lora_request=request
    ):
        final = output
    if final is None or final.outputs[0].finish_reason == "error" or not final.prompt_logprobs:
        raise ProbeFailed("the engine ended the probe with an error: the module's offset is not finite")
    return [entry[token].logprob for token, entry in zip(prompt[1:], final.prompt_logprobs[1:], strict=True)]


def largest_change(plain: list[float], unlearned: list[float]) -> float:
    """The largest absolute difference, in nats. Raises ProbeFailed when nothing changed."""
    change = max(abs(a - b) for a, b in zip(plain, unlearned, strict=True))
    if not math.isfinite(change) and not any(math.isinf(value) for value in unlearned):
        raise ProbeFailed("the module's offset is not finite")
    if not change > SMALLEST_CHANGE:
        raise ProbeFailed(f"the module changes nothing: largest change {change:g} nats over {len(plain)} tokens")
    return change
