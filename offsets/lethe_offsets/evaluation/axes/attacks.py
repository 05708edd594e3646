"""Membership inference: scores that are higher for texts a model was trained on, and how well they tell them apart.

logprobs, mean, std below: shape [T], nats; log p of each token, and mean and standard deviation of log p over the
vocabulary under p.

Sources: loss, "Privacy Risk in Machine Learning" (arXiv 1709.01604); zlib and reference, "Extracting Training Data
from Large Language Models" (arXiv 2012.07805); Min-K%, "Detecting Pretraining Data" (arXiv 2310.16789); Min-K%++
(arXiv 2404.02936). k and the floor of the variance are OpenUnlearning's (arXiv 2506.12618); the signs are turned, so
that a member scores high.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from scipy.stats import rankdata  # type: ignore[import-untyped]
from torch import Tensor

MIN_K = 0.4  # share of the tokens, the least probable ones
MIN_STD = 1e-3  # nats; a position that is certain has no spread to measure with


def loss_score(logprobs: Tensor) -> float:
    """Mean log p of a token."""
    return float(logprobs.double().mean())


def zlib_score(logprobs: Tensor, text: str) -> float:
    """Mean log p by the bytes that zlib needs for the text: text that is simple for zlib too is no evidence."""
    return loss_score(logprobs) / len(zlib.compress(text.encode()))


def min_k_score(logprobs: Tensor, k: float = MIN_K) -> float:
    """Mean log p of the share ``k`` of tokens that are the least probable, at least one."""
    return _mean_of_lowest(logprobs.double(), k)


def min_k_plus_plus_score(logprobs: Tensor, mean: Tensor, std: Tensor, k: float = MIN_K) -> float:
    """The same over ``(log p - mean) / std``: how far a token stands out from what else could have stood there."""
    return _mean_of_lowest((logprobs.double() - mean.double()) / std.double().clamp_min(MIN_STD), k)


def reference_score(logprobs: Tensor, reference: Tensor) -> float:
    """Mean log p of a token, less that of a reference model which has not seen the text."""
    return loss_score(logprobs) - loss_score(reference)


def auc(members: Sequence[float], others: Sequence[float]) -> float:
    """The probability that a member scores higher than a non-member, ties counted half; 0.5 is chance.

    Raises ValueError where one of the groups is empty.
    """
    if not members or not others:
        raise ValueError(f"scores: got {len(members)} members and {len(others)} others; accepted: at least one of each")
    ranks = rankdata([*members, *others])  # mean ranks where scores are equal
    above = ranks[: len(members)].sum() - len(members) * (len(members) + 1) / 2
    return float(above / (len(members) * len(others)))


def _mean_of_lowest(values: Tensor, k: float) -> float:
    return float(values.topk(max(1, int(k * len(values))), largest=False).values.mean())
