"""Whether what an engine says equals the reference: greedy tokens, their and the prompts' log-probabilities."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from kit import Kit, Served
from reference import Reference

FIRST_WORD, END = 3, 384  # token ids that are words


def random_prompts(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(FIRST_WORD, END) for _ in range(length)] for length in lengths]


def ask(served: Served, kit: Kit, prompts: list[list[int]], kinds: Sequence[str | None], **params: Any) -> list[Any]:
    """All requests at once; each kind is a module's name, or those of several with ``+`` between them, or None."""
    from vllm import SamplingParams

    sampling = SamplingParams(**{"temperature": 0.0, "max_tokens": 12, "ignore_eos": True, "logprobs": 0, **params})
    requests = [None if kind is None else served.register(*kit.named(kind)) for kind in kinds]
    inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
    outputs: list[Any] = served.llm.generate(inputs, sampling, lora_request=requests, use_tqdm=False)
    return outputs


def largest_difference(output: Any, prompt: list[int], reference: Reference, kit: Kit, kind: str | None) -> float:
    """Nats, over the sampled tokens' log-probabilities, the prompt's where asked for, and greedy margins.

    A greedy token that is not the reference's most likely one counts with the log-probability it lacks to it.
    """
    completion = output.outputs[0]
    tokens = list(completion.token_ids)
    table = reference.log_probs([*prompt, *tokens], kit.lanes(kind))
    answered = table[len(prompt) - 1 :]
    expected = answered.gather(1, torch.tensor(tokens)[:, None])[:, 0]
    given = torch.tensor([entry[token].logprob for token, entry in zip(tokens, completion.logprobs, strict=True)])
    differences = [(given - expected).abs().max(), (answered.max(dim=1).values - expected).max()]
    for position, entries in enumerate((output.prompt_logprobs or [None])[1:]):
        differences += [(table[position, token] - entry.logprob).abs() for token, entry in entries.items()]
    return float(torch.stack(differences).max())
