"""The best of k out of n samples, against every subset."""

from __future__ import annotations

from itertools import combinations

import pytest

from lethe_offsets.evaluation.axes.order import expected_best


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_it_is_the_mean_over_all_subsets(k: int) -> None:
    scores = [0.3, 0.9, 0.1, 0.9, 0.4]
    best = [max(subset) for subset in combinations(scores, k)]
    assert expected_best(scores, k) == pytest.approx(sum(best) / len(best))


def test_two_of_four_by_hand() -> None:
    # 6 pairs of 1, 2, 3, 4: the largest is 4 three times, 3 twice, 2 once
    assert expected_best([4, 2, 3, 1], 2) == pytest.approx((3 * 4 + 2 * 3 + 1 * 2) / 6)


def test_for_yes_or_no_it_is_pass_at_k() -> None:
    # one leak in four samples: two of them miss it in C(3, 2) / C(4, 2) = 3 of 6 cases
    assert expected_best([0, 0, 1, 0], 2) == pytest.approx(1 - 3 / 6)


def test_a_thousand_of_a_thousand_is_the_best_one() -> None:
    assert expected_best([place / 1000 for place in range(1000)], 1000) == pytest.approx(0.999)
    assert expected_best([1.0] + [0.0] * 999, 500) == pytest.approx(0.5)


@pytest.mark.parametrize("k", [0, 4])
def test_k_must_be_within_the_samples(k: int) -> None:
    with pytest.raises(ValueError, match="accepted: 1 to 3"):
        expected_best([1, 2, 3], k)
