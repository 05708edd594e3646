"""The offset as one operator on the CPU, against the arithmetic that all else uses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lethe_offsets.pair import Rule, RuleRows, apply_rules
from lethe_server.engine.lanes import by_lane
from lethe_server.engine.logits import add_offset

pytestmark = pytest.mark.usefixtures("operators")

ROWS, VOCABULARY = 9, 1003
PLAIN = [Rule(strength=0.25 * (row + 1)) for row in range(ROWS)]
CLIPPED = [Rule(strength=-1.5, clip=0.5 * (row + 1)) if row % 2 else Rule() for row in range(ROWS)]
NO_SPECIAL_IDS = torch.zeros(0, dtype=torch.long)


def logits(rows: int, vocabulary: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (3.0 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(rows))).to(dtype)


def check(large: Tensor, pair: Tensor, rules: RuleRows) -> Tensor:
    minus, plus = by_lane(pair)
    found = add_offset(large, plus, minus, rules)
    expected = apply_rules(large, plus, minus, rules, NO_SPECIAL_IDS)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, equal_nan=True)
    return found


@pytest.mark.parametrize("rules", [PLAIN, CLIPPED], ids=["plain", "clipped"])
@pytest.mark.parametrize("small", [VOCABULARY, VOCABULARY - 70, VOCABULARY + 61, 7])
@pytest.mark.parametrize("threads", [1, 4])
def test_every_width(rules: list[Rule], small: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = check(logits(ROWS, VOCABULARY), logits(2 * ROWS, small), RuleRows.stack(rules))
    finally:
        torch.set_num_threads(before)
    assert not torch.equal(found, logits(ROWS, VOCABULARY))


@pytest.mark.parametrize("pair", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("large", [torch.float32, torch.bfloat16, torch.float16])
def test_every_precision(large: torch.dtype, pair: torch.dtype) -> None:
    check(logits(ROWS, VOCABULARY, large), logits(2 * ROWS, VOCABULARY, pair), RuleRows.stack(CLIPPED))


def test_a_vocabulary_padded_in_memory() -> None:
    large, pair = logits(ROWS, VOCABULARY + 21)[:, :VOCABULARY], logits(2 * ROWS, VOCABULARY + 3)[:, :VOCABULARY]
    check(large, pair, RuleRows.stack(PLAIN))


def test_a_row_without_a_module_is_the_large_row_bit_for_bit() -> None:
    large, pair = logits(ROWS, VOCABULARY), logits(2 * ROWS, VOCABULARY)
    pair[4] = torch.inf  # its minus row
    found = check(large, pair, RuleRows.stack(PLAIN).take(torch.tensor([0, 1, -1, 3, 4, -1, 6, 7, 8])))
    unchanged = (found == large).all(dim=-1)
    assert unchanged.nonzero().flatten().tolist() == [2, 5]


@pytest.mark.parametrize("place", [0, VOCABULARY // 2, VOCABULARY - 1])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_offset_that_is_not_finite_spoils_its_row_only(value: float, place: int) -> None:
    pair = logits(2 * ROWS, VOCABULARY)
    pair[7, place] = value  # the plus row of row 3
    found = check(logits(ROWS, VOCABULARY), pair, RuleRows.stack(CLIPPED))
    assert found.isnan().all(dim=-1).tolist() == [row == 3 for row in range(ROWS)]
    assert found.isnan().sum() == VOCABULARY


def test_an_unknown_rule_spoils_its_row_only() -> None:
    pair = torch.zeros(2 * ROWS, 7)
    found = check(logits(ROWS, VOCABULARY), pair, RuleRows.stack([*PLAIN[:-1], None]))
    assert found.isnan().all(dim=-1).tolist() == [row == ROWS - 1 for row in range(ROWS)]


def test_lanes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"lanes of \[8, 7\] and \[8, 7\] for 9 rows"):
        check(logits(ROWS, VOCABULARY), logits(16, 7), RuleRows.stack(PLAIN))
