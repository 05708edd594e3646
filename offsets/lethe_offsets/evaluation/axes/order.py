"""The best of k samples, estimated without bias from n of them.

Source: Leak@k, "Unlearning Does Not Make LLMs Forget Under Probabilistic Decoding" (arXiv 2511.04934), whose estimator
for a yes-or-no score is pass@k's (arXiv 2107.03374).
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def expected_best(scores: Sequence[float], k: int) -> float:
    """The mean, over all subsets of ``k`` of the scores, of the largest one.

    The i-th smallest of n (from 1) is the largest of C(i - 1, k - 1) subsets out of C(n, k). For scores of 0 and 1,
    c of them 1, that is ``1 - C(n - c, k) / C(n, k)``. Raises ValueError unless 1 <= k <= n.
    """
    if not 1 <= k <= len(scores):
        raise ValueError(f"k: got {k}; accepted: 1 to {len(scores)}, the number of samples")
    subsets = math.comb(len(scores), k)
    return sum(
        score * (math.comb(place, k - 1) / subsets) for place, score in enumerate(sorted(scores)) if place >= k - 1
    )
