"""The arithmetic of several modules at once, written out by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from lethe_offsets.pair import REMOVED, Rule, RuleRows, apply_rules, apply_sum

NO_SPECIAL = torch.tensor([], dtype=torch.long)
LARGE = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
FIRST = torch.tensor([[-0.5, -2.0, 2.0, 0.0]])
SECOND = torch.tensor([[1.0, 0.25, -4.0, -3.0]])


def summed(*modules: tuple[Tensor, Rule | None], special_ids: Tensor = NO_SPECIAL, large: Tensor = LARGE) -> Tensor:
    """modules: offset and rule; the minus lane gives ones."""
    pairs = [(offset + 1.0, torch.ones_like(offset)) for offset, _ in modules]
    return apply_sum(large, pairs, [RuleRows.stack([rule]) for _, rule in modules], special_ids)


def random_pairs(rows: int, count: int, vocab: int = 16) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    large = torch.randn(rows, vocab, generator=generator)
    return large, [tuple(torch.randn(2, rows, vocab, generator=generator)) for _ in range(count)]


def test_each_offset_is_added_with_its_own_strength() -> None:
    out = summed((FIRST, Rule(strength=2.0)), (SECOND, Rule(strength=0.5)))
    assert out[0].tolist() == [2.0 - 1.0 + 0.5, 1.0 - 4.0 + 0.125, 0.0 + 4.0 - 2.0, -1.0 + 0.0 - 1.5]


def test_each_offset_is_bounded_by_its_own_clip() -> None:
    out = summed((FIRST, Rule(clip=1.0)), (SECOND, Rule(strength=2.0, clip=3.0)))
    assert out[0].tolist() == [2.0 - 0.5 + 2.0, 1.0 - 1.0 + 0.5, 0.0 + 1.0 - 6.0, -1.0 + 0.0 - 6.0]


def test_each_floor_is_the_large_models() -> None:
    """Relative to the largest its probabilities are 1, 0.37, 0.14 and 0.05, whatever the other module adds."""
    out = summed((FIRST, Rule(plausibility=0.2)), (SECOND, Rule(plausibility=0.1)))
    assert out[0].tolist() == [2.0 - 0.5 + 1.0, 1.0 - 2.0 + 0.25, 0.0 - 4.0, -1.0]


def test_rank_removes_its_tokens_from_the_sum_of_the_others() -> None:
    ranked = (SECOND, Rule(mode="rank", rank_k=1))
    assert summed((FIRST, Rule()), ranked)[0].tolist() == [1.5, -1.0, 2.0 - REMOVED, -1.0]
    other = (FIRST, Rule(mode="rank", rank_k=1))
    assert summed(other, ranked)[0].tolist() == [2.0, 2.0 - REMOVED, 2.0 - REMOVED, -1.0]


@pytest.mark.parametrize("rules", [(Rule(pin_special=True), Rule()), (Rule(), Rule(pin_special=True))])
def test_special_tokens_are_pinned_if_one_of_the_modules_pins(rules: tuple[Rule, Rule]) -> None:
    out = summed((FIRST, rules[0]), (SECOND, rules[1]), special_ids=torch.tensor([1])).softmax(-1)[0]

    pinned = math.exp(1.0) / sum(math.exp(logit) for logit in (2.0, 1.0, 0.0, -1.0))
    shifted = {0: math.exp(2.5), 2: math.exp(-2.0), 3: math.exp(-4.0)}  # both offsets, without token 1
    expected = [shifted[i] / sum(shifted.values()) * (1 - pinned) if i != 1 else pinned for i in range(4)]
    torch.testing.assert_close(out, torch.tensor(expected))


def test_a_pinned_token_comes_back_though_another_module_removes_it() -> None:
    modules = [(FIRST, Rule(pin_special=True)), (SECOND, Rule(mode="rank", rank_k=1))]
    out = summed(*modules, special_ids=torch.tensor([2])).softmax(-1)[0]
    torch.testing.assert_close(out[2], LARGE.softmax(-1)[0, 2])


def test_a_pair_without_a_module_is_not_looked_at() -> None:
    large, pairs = random_pairs(4, 2)
    pairs[1][0][[0, 1]] = math.nan
    first = RuleRows.stack([Rule(strength=0.7, clip=1.0, pin_special=True)]).take(torch.tensor([0, -1, 0, 0]))
    second = RuleRows.stack([Rule(strength=3.0)]).take(torch.tensor([-1, -1, 0, -1]))
    out = apply_sum(large, pairs, [first, second], torch.tensor([0]))

    alone = apply_rules(large, *pairs[0], first, torch.tensor([0]))
    assert torch.equal(out[[0, 1, 3]], alone[[0, 1, 3]])
    assert torch.equal(out[1], large[1])
    assert out[2].isfinite().all()
    assert not torch.equal(out[2], alone[2])


def test_a_gate_is_its_own_modules() -> None:
    (offset, rule), (other, _) = (FIRST, Rule(strength=0.5)), (SECOND, Rule())
    assert torch.equal(summed((offset, rule), (other, Rule(gate=1e3))), summed((offset, rule)))
    assert torch.equal(summed((offset, rule), (other, Rule(gate=1e-6))), summed((offset, rule), (other, Rule())))


@pytest.mark.parametrize("rule", [Rule(), Rule(plausibility=0.3, clip=0.4), Rule(mode="rank", rank_k=3)])
def test_a_sum_of_one_is_that_one(rule: Rule) -> None:
    large, pairs = random_pairs(3, 1)
    rules = RuleRows.stack([rule] * 3)
    assert torch.equal(apply_sum(large, pairs, [rules], NO_SPECIAL), apply_rules(large, *pairs[0], rules, NO_SPECIAL))


def test_the_order_of_the_modules_means_nothing() -> None:
    large, pairs = random_pairs(2, 3)
    rules = [Rule(strength=1.5), Rule(pin_special=True, clip=0.5), Rule(mode="rank", rank_k=4, plausibility=0.1)]
    stacked = [RuleRows.stack([rule] * 2) for rule in rules]
    special = torch.tensor([0, 3])
    results = [
        apply_sum(large, [pairs[i] for i in order], [stacked[i] for i in order], special)
        for order in itertools.permutations(range(3))
    ]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])


BESIDE = [Rule(), Rule(pin_special=True), Rule(mode="rank", rank_k=3)]


@pytest.mark.parametrize("beside", BESIDE, ids=["linear", "pinned", "rank"])
@pytest.mark.parametrize("place", [0, 1])
def test_an_unknown_rule_spoils_its_row_only(beside: Rule, place: int) -> None:
    large, pairs = random_pairs(2, 2)
    rules = [RuleRows.stack([beside] * 2), RuleRows.stack([beside] * 2)]
    rules[place] = RuleRows.stack([None, Rule()])
    out = apply_sum(large, pairs, rules, torch.tensor([0, 1]))
    assert out.isnan().all(dim=-1).tolist() == [True, False]
    assert out[1].isfinite().all()


@pytest.mark.parametrize("beside", BESIDE, ids=["linear", "pinned", "rank"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_offset_that_is_not_finite_spoils_its_row_only(beside: Rule, value: float) -> None:
    for place in (0, 1):
        large, pairs = random_pairs(3, 2)
        pairs[place][0][1, 5] = value
        rules = [RuleRows.stack([beside] * 3), RuleRows.stack([beside] * 3)]
        rules[place] = RuleRows.stack([Rule(clip=1.0, plausibility=0.1)] * 3)
        out = apply_sum(large, pairs, rules, torch.tensor([0, 1]))
        assert out.isnan().all(dim=-1).tolist() == [False, True, False]
        assert out[[0, 2]].isfinite().all()


def test_offsets_of_opposite_infinities_do_not_cancel() -> None:
    large, pairs = random_pairs(1, 2)
    pairs[0][0][0, 2], pairs[1][0][0, 2] = math.inf, -math.inf
    assert apply_sum(large, pairs, [RuleRows.stack([Rule()])] * 2, NO_SPECIAL).isnan().all()
