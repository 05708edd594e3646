"""Ratios, bounds and goals, from results written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from lethe_server.bench.goals import goals
from lethe_server.bench.plot import draw
from lethe_server.bench.settings import BenchSettings, Cell
from lethe_server.bench.steps import summary
from lethe_server.bench.store import Key, Store
from lethe_server.bench.summary import LETHE, LOOP, PLAIN, PROCESSOR, bound, first_bound, pair_share, rows
from lethe_server.bench.timer import Step

SETTINGS = BenchSettings(ratios=(4,), concurrency=(1, 16), prompts=(32,), rounds=2, modules=64)


def cell(tokens_per_s: float, first: float, step: float) -> dict[str, float]:
    return {
        "tokens_per_s": tokens_per_s,
        "first_p50": first,
        "first_p99": first,
        "next_p50": step,
        "next_p99": step,
        "step": step,
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Plain decodes in 8 ms and Lethe in 10; the small model's forward over twice the rows takes 1.6 ms, 2 if cold."""
    made = Store(tmp_path / "results.jsonl", {"machine": {}})
    speeds = {PLAIN: (1000.0, 1100.0), LETHE: (800.0, 900.0), PROCESSOR: (500.0, 500.0), LOOP: (200.0, 200.0)}
    firsts = {PLAIN: 0.100, LETHE: 0.140, PROCESSOR: 0.2, LOOP: 0.2}
    steps = {PLAIN: 0.008, LETHE: 0.010, PROCESSOR: 0.02, LOOP: 0.05}
    for system, pair in speeds.items():
        for number, speed in enumerate(pair):
            made.add(Key("cell", system, 4, 16, 32, number), cell(speed, firsts[system], steps[system]))
    for system, speed in ((PLAIN, 120.0), (LOOP, 50.0)):
        made.add(Key("cell", system, 4, 1, 32, 0), cell(speed, firsts[system], steps[system]))
    made.add(Key("steps", "large", 0, 16, 32), {"prefill": 0.050, "decode": 0.007, "step": 0.008, "pair": None})
    small = {"prefill": 0.015, "decode": 0.0016, "cold": 0.0020, "step": 0.002, "pair": None}
    made.add(Key("steps", "small", 4, 16, 32), small)
    made.add(Key("steps", LETHE, 4, 16, 32), {"prefill": 0.07, "decode": 0.009, "step": 0.010, "pair": 0.002})
    for system, speed in (("one", 1000.0), ("mixed", 850.0)):
        made.add(Key("modules", system, 4, 64, 32), cell(speed, 0.1, 0.01))
    made.add(Key("start", PLAIN, 4), 10.0)
    made.add(Key("start", LETHE, 4), 12.5)
    return made


def test_bounds_by_hand() -> None:
    assert bound(0.008, 0.002) == pytest.approx(0.8)
    assert first_bound(0.050, 0.010) == pytest.approx(1.2)
    assert bound(None, 0.002) is None
    assert first_bound(0.05, None) is None


def test_a_row_is_the_median_of_turns(store: Store) -> None:
    plain, lethe, *_ = (row for row in rows(SETTINGS, store) if row.cell.concurrency == 16)
    assert (plain.to_plain, plain.bound, plain.of_bound) == (1.0, None, None)
    assert lethe.to_plain == pytest.approx((800 / 1000 + 900 / 1100) / 2)
    assert lethe.spread == pytest.approx(100 / 850)
    assert lethe.step_to_plain == pytest.approx(8 / 10)
    assert lethe.bound == pytest.approx(8 / 9.6)
    assert lethe.of_bound == pytest.approx(0.96)
    assert (lethe.cold_bound, lethe.of_cold_bound) == (pytest.approx(0.8), pytest.approx(1.0))
    assert lethe.first_of_bound == pytest.approx(1.4 / 1.3)
    assert pair_share(store, 4, Cell(16, 32)) == pytest.approx(0.2)
    assert pair_share(store, 4, Cell(1, 32)) is None


def test_goals_are_judged_one_by_one(store: Store) -> None:
    judged = goals(rows(SETTINGS, store), store)
    assert [goal.verdict for goal in judged] == ["met", "met", "not met", "met", "met", "met", "not met", "met"]
    measured = [goal.measured or "" for goal in judged]
    for text, value in zip(measured, ("0.96", "1.00", "4.25", "17.00", "1.70", "1.08", "0.85", "1.25"), strict=True):
        assert text.startswith(value)


def test_what_was_not_measured_is_not_met(tmp_path: Path) -> None:
    empty = Store(tmp_path / "other.jsonl", {"machine": {}})
    judged = goals(rows(SETTINGS, empty), empty)
    assert {goal.verdict for goal in judged} == {"not measured"}
    assert not any(goal.met for goal in judged)


def test_the_picture_is_drawn(store: Store, tmp_path: Path) -> None:
    draw(rows(SETTINGS, store), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_steps_are_summed_up_over_whole_batches_only() -> None:
    steps = [
        Step(0.0, 64, False, {"model": 0.5}),
        Step(1.0, 2, True, {"model": 0.1}),  # two of three requests decode already
        Step(2.0, 3, True, {"model": 0.2, "pair": 0.05}),
        Step(2.4, 3, True, {"model": 0.3, "pair": 0.07}),
        Step(2.7, 3, True, {"model": 0.3, "pair": 0.06}),
    ]
    found = summary(steps, 3)
    assert found == {"prefill": 0.5, "decode": 0.3, "step": pytest.approx(0.35), "pair": 0.06}
