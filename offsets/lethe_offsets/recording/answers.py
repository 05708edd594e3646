"""A server's log-probabilities of a prompt, checked and as tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lethe_offsets.errors import InvalidInput
from lethe_offsets.recording.topk import TopK
from lethe_offsets.training.data import Example

ROUNDING = 1e-3  # by which probabilities may add up to more than 1


def answer_rows(entries: Sequence[Any], example: Example, top_k: int) -> TopK:
    """The rows of an example's predicted tokens from a server's ``prompt_logprobs``.

    Raises InvalidInput for entries that are not the log-probabilities of these tokens.
    """
    ids, logprobs, own = [], [], []
    for entry, token, predicted in zip(entries, example.ids, example.answer, strict=True):
        if predicted:
            ranked, of_token = _position(entry, token, top_k)
            ids.append([index for _, index in ranked])
            logprobs.append([value for value, _ in ranked])
            own.append(of_token)
    rows = TopK(torch.tensor(ids, dtype=torch.int32), torch.tensor(logprobs), torch.tensor(own))
    largest = float(rows.logprobs.double().exp().sum(dim=-1).max())
    if largest > 1.0 + ROUNDING:
        accepted = "log-probabilities, whose exponentials add up to at most 1 (vLLM: --logprobs-mode raw_logprobs)"
        raise InvalidInput("prompt_logprobs", f"a sum of {largest:.4g}", accepted)
    return rows


def _position(entry: Any, token: int, top_k: int) -> tuple[list[tuple[float, int]], float]:
    """The ``top_k`` most probable ids with their values, in falling order, and the value of ``token``."""
    try:
        found = {int(index): float(value["logprob"]) for index, value in _mapping(entry).items()}
        of_token = found[token]
    except (ValueError, LookupError, TypeError) as err:
        accepted = f"an entry for each token with its logprob; none for id {token}"
        raise InvalidInput("prompt_logprobs", str(entry)[:80], accepted) from err
    if len(found) > top_k:  # the token itself comes on top of the most probable ones
        del found[token]
    if len(found) != top_k:
        raise InvalidInput("prompt_logprobs", f"{len(found)} tokens at a position", f"the {top_k} that were asked for")
    if not all(math.isfinite(value) for value in (of_token, *found.values())):
        raise InvalidInput("prompt_logprobs", "NaN or infinity", "finite numbers")
    return sorted(((value, index) for index, value in found.items()), reverse=True), of_token


def _mapping(entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise TypeError(type(entry).__name__)
    return entry
