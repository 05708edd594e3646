"""Which rules are tried, and which is chosen; the numbers written out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lethe_offsets.calibration.grid import RANKS, Point, choose, grid
from lethe_offsets.errors import InvalidInput
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule

BEFORE = Point(Rule(strength=0.0), forget=0.8, retain=0.5)


def point(strength: float, forget: float, retain: float, distance: float | None = None) -> Point:
    return Point(Rule(strength=strength), forget, retain, distance)


def test_strengths_go_up_to_the_modules_bound(made_module: Module) -> None:
    rules = grid(made_module.manifest)
    assert [rule.strength for rule in rules] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert {replace(rule, strength=1.2) for rule in rules} == {made_module.rule}


def test_a_module_in_rank_mode_is_tried_at_numbers_of_tokens(made_module: Module) -> None:
    ranked = replace(made_module.rule, mode="rank")
    rules = grid(made_module.manifest.model_copy(update={"rule": ranked}))
    assert rules == [replace(ranked, rank_k=rank_k) for rank_k in RANKS]


def test_both_modes_can_be_compared(made_module: Module) -> None:
    rules = grid(made_module.manifest, strengths=[0.5], ranks=[3])
    assert [(rule.mode, rule.strength, rule.rank_k) for rule in rules] == [("linear", 0.5, 20), ("rank", 1.2, 3)]


def test_each_rule_is_tried_under_each_gate(made_module: Module) -> None:
    rules = grid(made_module.manifest, strengths=[0.5, 1.0], gates=[0.0, 2.0])
    assert [(rule.strength, rule.gate) for rule in rules] == [(0.5, 0.0), (0.5, 2.0), (1.0, 0.0), (1.0, 2.0)]


@pytest.mark.parametrize(
    ("strengths", "ranks", "gates", "message"),
    [
        ([2.5], [], [], "strength: got 2.5; accepted: 0 to 2"),
        ([], [0], [], "rank_k: got 0; accepted: 1 to 1024"),
        ([], [], [-1.0], "gate: got -1.0; accepted: a number of nats"),
    ],
)
def test_a_rule_beyond_the_bounds_is_refused(
    made_module: Module, strengths: list[float], ranks: list[int], gates: list[float], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        grid(made_module.manifest, strengths, ranks, gates)


def test_without_a_reference_the_best_difference_of_shares_wins() -> None:
    # 0.45 / 0.5 - 0.4 / 0.8 = 0.4; 0.4 / 0.5 - 0.08 / 0.8 = 0.7; 0.2 / 0.5 - 0 = 0.4
    points = [point(0.5, 0.4, 0.45), point(1.0, 0.08, 0.4), point(2.0, 0.0, 0.2)]
    assert choose(points, BEFORE, 0.0) is points[1]


def test_a_retain_set_that_gains_makes_up_for_nothing() -> None:
    # min(1, 0.9 / 0.5) - 0.4 / 0.8 = 0.5; 0.45 / 0.5 - 0.16 / 0.8 = 0.7
    points = [point(0.5, 0.4, 0.9), point(1.0, 0.16, 0.45)]
    assert choose(points, BEFORE, 0.0) is points[1]


def test_of_equal_points_the_first_wins() -> None:
    points = [point(1.0, 0.08, 0.4), point(2.0, 0.08, 0.4)]
    assert choose(points, BEFORE, 0.0) is points[0]


def test_with_a_reference_the_nearest_wins_that_keeps_the_retain_set() -> None:
    before = replace(BEFORE, distance=0.7)
    points = [point(0.5, 0.4, 0.49, 0.3), point(1.0, 0.2, 0.475, 0.1), point(2.0, 0.1, 0.4, 0.0)]
    assert choose(points, before, 0.05) is points[1]  # 0.475 is 0.5 less 5%
    assert choose(points, before, 0.03) is points[0]
    assert choose(points, before, 0.2) is points[2]


def test_a_grid_that_costs_too_much_is_refused() -> None:
    points = [point(1.0, 0.2, 0.4, 0.1)]
    with pytest.raises(InvalidInput, match=r"max_retain_loss: got 0.05; accepted: at least 0.2000"):
        choose(points, replace(BEFORE, distance=0.7), 0.05)
