"""The arithmetic of an offset, written out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lethe_offsets.pair import REMOVED, Rule, RuleRows, apply_rules, pad_offset

NO_SPECIAL = torch.tensor([], dtype=torch.long)
LARGE = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
PLUS = torch.tensor([[0.5, -1.0, 3.0, 0.0]])
MINUS = torch.tensor([[1.0, 1.0, 1.0, 0.0]])  # offset: -0.5, -2, 2, 0


def applied(rule: Rule, special_ids: Tensor = NO_SPECIAL, large: Tensor = LARGE) -> list[float]:
    out = apply_rules(large, PLUS, MINUS, RuleRows.stack([rule]), special_ids)
    return [float(value) for value in out[0]]


def random_rows(rows: int, vocab: int = 16, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    large, plus, minus = torch.randn(3, rows, vocab, generator=generator)
    return large, plus, minus


def test_linear_adds_strength_times_plus_less_minus() -> None:
    assert applied(Rule(strength=1.0)) == [1.5, -1.0, 2.0, -1.0]
    assert applied(Rule(strength=0.5)) == [1.75, 0.0, 1.0, -1.0]
    assert applied(Rule(strength=-1.0)) == [2.5, 3.0, -2.0, -1.0]


def test_zero_strength_is_the_large_model() -> None:
    assert applied(Rule(strength=0.0)) == LARGE[0].tolist()


def test_clip_bounds_the_offset_before_the_strength() -> None:
    assert applied(Rule(strength=2.0, clip=1.0)) == [2.0 - 1.0, 1.0 - 2.0, 0.0 + 2.0, -1.0]


def test_plausibility_leaves_improbable_tokens_alone() -> None:
    # Relative to the largest, the large model's probabilities are 1, e^-1 = 0.37, e^-2 = 0.14, e^-3 = 0.05.
    assert applied(Rule(plausibility=0.2)) == [1.5, -1.0, 0.0, -1.0]
    assert applied(Rule(plausibility=0.1)) == [1.5, -1.0, 2.0, -1.0]


def test_pinned_tokens_keep_their_probability_and_the_rest_is_renormalised() -> None:
    out = torch.tensor(applied(Rule(pin_special=True), special_ids=torch.tensor([1]))).softmax(-1)

    total = sum(math.exp(logit) for logit in (2.0, 1.0, 0.0, -1.0))
    pinned = math.exp(1.0) / total
    shifted = {0: math.exp(1.5), 2: math.exp(2.0), 3: math.exp(-1.0)}  # linear, without token 1
    expected = [shifted[i] / sum(shifted.values()) * (1 - pinned) if i != 1 else pinned for i in range(4)]
    torch.testing.assert_close(out, torch.tensor(expected))


def test_a_gate_leaves_positions_alone_where_the_lanes_agree_more() -> None:
    plus, minus = ([math.exp(logit) for logit in lane[0].tolist()] for lane in (PLUS, MINUS))
    size = sum(p / sum(plus) * math.log(p / sum(plus) / (m / sum(minus))) for p, m in zip(plus, minus, strict=True))
    for rule in (Rule(), Rule(pin_special=True), Rule(mode="rank", rank_k=1)):
        shut, opened = (replace(rule, gate=size + move) for move in (1e-4, -1e-4))
        assert applied(shut, special_ids=torch.tensor([3])) == LARGE[0].tolist()
        assert applied(opened, special_ids=torch.tensor([3])) == applied(rule, special_ids=torch.tensor([3]))


def test_a_gate_hides_no_offset_that_is_not_finite() -> None:
    plus = PLUS.index_fill(1, torch.tensor([2]), math.inf)
    assert apply_rules(LARGE, plus, MINUS, RuleRows.stack([Rule(gate=1e9)]), NO_SPECIAL).isnan().all()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_rank_removes_exactly_the_k_most_negative(k: int) -> None:
    large = torch.zeros(1, 5)
    plus = torch.tensor([[-1.0, -4.0, 2.0, -3.0, -2.0]])
    out = apply_rules(large, plus, torch.zeros(1, 5), RuleRows.stack([Rule(mode="rank", rank_k=k)]), NO_SPECIAL)

    removed = {1, 3, 4} if k == 3 else {1, 3} if k == 2 else {1}
    assert out[0].tolist() == [-REMOVED if token in removed else 0.0 for token in range(5)]
    assert float(out[0].softmax(-1)[list(removed)].sum()) == 0.0


def test_rank_never_removes_a_token_without_a_negative_offset() -> None:
    assert applied(Rule(mode="rank", rank_k=20)) == [2.0 - REMOVED, 2.0 - REMOVED, 0.0, -1.0]


def test_rank_follows_the_sign_of_the_strength() -> None:
    assert applied(Rule(mode="rank", rank_k=1, strength=-1.0)) == [2.0, 1.0, 2.0 - REMOVED, -1.0]


def test_rank_with_pinning_spares_special_tokens() -> None:
    out = torch.tensor(applied(Rule(mode="rank", rank_k=1, pin_special=True), special_ids=torch.tensor([1])))

    assert out.softmax(-1)[0] == 0.0  # token 1 has the lower offset, but is pinned
    torch.testing.assert_close(out.softmax(-1)[1], LARGE.softmax(-1)[0, 1])


def test_padding_beyond_the_shared_vocabulary_is_the_large_models() -> None:
    large = torch.tensor([[2.0, 1.0, 0.0, -1.0, 0.25, -9.0]])
    assert applied(Rule(), large=large) == [1.5, -1.0, 2.0, -1.0, 0.25, -9.0]


def test_an_offset_wider_than_the_large_vocabulary_is_cut() -> None:
    assert pad_offset(torch.tensor([[1.0, 2.0, 3.0]]), 2).tolist() == [[1.0, 2.0]]
    assert applied(Rule(), large=LARGE[:, :2]) == [1.5, -1.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_offset_that_is_not_finite_spoils_its_row_only(value: float) -> None:
    large, plus, minus = random_rows(3)
    plus[1, 5] = value
    rules = RuleRows.stack([Rule(clip=1.0, plausibility=0.1, pin_special=True)] * 3)
    out = apply_rules(large, plus, minus, rules, torch.tensor([0]))

    assert out.isnan().all(dim=-1).tolist() == [False, True, False]
    assert out[[0, 2]].isfinite().all()


def test_an_unknown_rule_spoils_its_row_only() -> None:
    out = apply_rules(*random_rows(2), RuleRows.stack([None, Rule()]), NO_SPECIAL)
    assert out.isnan().all(dim=-1).tolist() == [True, False]


def test_a_row_without_a_module_is_the_large_row_bit_for_bit() -> None:
    large, plus, minus = random_rows(3)
    plus[1] = math.nan  # not even looked at
    rules = RuleRows.stack([Rule(strength=3.0, pin_special=True, clip=0.5)]).take(torch.tensor([0, -1, -1]))
    out = apply_rules(large, plus, minus, rules, torch.tensor([2]))

    assert torch.equal(out[1:], large[1:])
    assert not torch.equal(out[0], large[0])


def test_each_row_follows_its_own_rule() -> None:
    rules = [
        Rule(strength=0.5),
        Rule(clip=0.1),
        Rule(plausibility=0.3),
        Rule(gate=1.0),
        Rule(gate=0.1, pin_special=True),
        Rule(pin_special=True),
        Rule(mode="rank", rank_k=3),
        Rule(mode="rank", rank_k=5, pin_special=True),
    ]
    large, plus, minus = random_rows(len(rules))
    special = torch.tensor([0, 3])
    together = apply_rules(large, plus, minus, RuleRows.stack(rules), special)
    for row, rule in enumerate(rules):
        one = slice(row, row + 1)
        alone = apply_rules(large[one], plus[one], minus[one], RuleRows.stack([rule]), special)
        torch.testing.assert_close(together[one], alone, msg=f"row {row}: {rule}")


def test_take_hands_each_row_the_rule_of_its_index() -> None:
    large, plus, minus = random_rows(3)
    rules = RuleRows.stack([Rule(strength=1.0), Rule(strength=2.0), None])
    out = apply_rules(large, plus, minus, rules.take(torch.tensor([1, 2, 0])), NO_SPECIAL)

    torch.testing.assert_close(out[0], large[0] + 2.0 * (plus[0] - minus[0]))
    assert out[1].isnan().all()
    torch.testing.assert_close(out[2], large[2] + (plus[2] - minus[2]))


def test_half_precision_logits_are_added_in_float32() -> None:
    large, plus, minus = (tensor.bfloat16() for tensor in random_rows(2))
    out = apply_rules(large, plus, minus, RuleRows.stack([Rule()] * 2), NO_SPECIAL)

    assert out.dtype == torch.float32
    assert torch.equal(out, large.float() + (plus.float() - minus.float()))


def test_the_gradient_of_a_linear_rule_is_its_strength() -> None:
    plus, minus = PLUS.clone().requires_grad_(), MINUS.clone().requires_grad_()
    rules = RuleRows.stack([Rule(strength=1.5, plausibility=0.2)])
    apply_rules(LARGE, plus, minus, rules, NO_SPECIAL).sum().backward()

    assert plus.grad is not None
    assert minus.grad is not None
    assert plus.grad[0].tolist() == [1.5, 1.5, 0.0, 0.0]  # nothing flows to tokens under the floor
    assert minus.grad[0].tolist() == [-1.5, -1.5, 0.0, 0.0]


def test_the_gradient_is_finite_through_pinning_and_clipping() -> None:
    large, plus, minus = random_rows(4)
    plus.requires_grad_()
    rules = RuleRows.stack([Rule(pin_special=True, clip=5.0)] * 4)
    out = apply_rules(large, plus, minus, rules, torch.tensor([0, 1]))
    torch.nn.functional.cross_entropy(out, torch.tensor([2, 3, 4, 5])).backward()

    assert plus.grad is not None
    assert plus.grad.isfinite().all()
    assert (plus.grad[:, 2:] != 0).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("strength", 16.5),
        ("strength", math.nan),
        ("plausibility", 1.0),
        ("plausibility", -0.1),
        ("clip", 0.0),
        ("clip", math.inf),
        ("mode", "cubic"),
        ("rank_k", 0),
        ("rank_k", 2000),
    ],
)
def test_a_rule_names_the_field_it_refuses(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got '?{value}"):
        Rule(**{field: value})
