"""How likely the engine finds given tokens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from vllm import SamplingParams
from vllm.inputs import TokensPrompt
from vllm.logprobs import Logprob
from vllm.lora.request import LoRARequest


async def score_tokens(
    client: Any,
    ids: Sequence[int],
    start: int,
    request: LoRARequest | None,
    request_id: str,
    engine: int | None = None,
) -> list[Logprob] | None:
    """Log-probability (nats) and rank of each of ``ids[start:]``, given those before it; ``start`` is at least 1.

    engine: which one of the client's; None for any. None when it ends the request with an error: the offset is not
    finite.
    """
    params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
    final: Any = None
    prompt = TokensPrompt(prompt_token_ids=list(ids))
    outputs = client.generate(prompt, params, request_id, lora_request=request, data_parallel_rank=engine)
    async with aclosing(outputs):
        async for output in outputs:
            final = output
    if final is None or final.outputs[0].finish_reason == "error" or not final.prompt_logprobs:
        return None
    return [entry[token] for token, entry in zip(ids[start:], final.prompt_logprobs[start:], strict=True)]
