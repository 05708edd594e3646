"""Exact memorisation and extraction strength: how much of an answer comes word for word.

Both read one flag per token of the answer: whether it is the most probable one after the question and the true tokens
before it. That equals greedy decoding from there, as long as all flags are true.

Sources: exact memorisation, "Memorization Without Overfitting" (arXiv 2205.10770); extraction strength, "Extracting
Training Data from Large Language Models" (arXiv 2012.07805) and "Towards Effective Evaluations and Comparisons for LLM
Unlearning Methods" (arXiv 2406.09179). Both as in OpenUnlearning (arXiv 2506.12618), except that an answer of which
not even the last token is reproduced has strength 0, where OpenUnlearning gives 1 / length.
"""

from __future__ import annotations

from collections.abc import Sequence


def exact_memorisation(greedy: Sequence[bool]) -> float:
    """The share of tokens that are the most probable ones, in [0, 1]."""
    _check(greedy)
    return sum(greedy) / len(greedy)


def extraction_strength(greedy: Sequence[bool]) -> float:
    """1 less the share of the answer that has to be given for greedy decoding to reproduce the rest, in [0, 1]."""
    _check(greedy)
    wrong = [place for place, hit in enumerate(greedy) if not hit]
    needed = wrong[-1] + 1 if wrong else 0
    return 1.0 - needed / len(greedy)


def _check(greedy: Sequence[bool]) -> None:
    if not greedy:
        raise ValueError("greedy: got no tokens; accepted: at least one token of the answer")
