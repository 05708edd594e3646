"""From moments of tokens to a cell's numbers, with the arithmetic by hand."""

from __future__ import annotations

import pytest

from lethe_server.bench.measurement import Times, full_window, measure


def test_the_full_window_holds_only_steps_in_which_everyone_decodes() -> None:
    early = Times(sent=0.0, arrived=(1.0, 2.0, 3.0, 4.0), tokens=4)
    late = Times(sent=0.0, arrived=(2.0, 3.0, 4.0, 5.0), tokens=4)
    # The last first token comes at 2, the first last token at 4; in between early shows steps at 3 and 4.
    assert full_window([early, late]) == (2.0, 2)


def test_two_tokens_in_one_piece_do_not_shorten_the_count_of_steps() -> None:
    whole = Times(sent=0.0, arrived=(1.0, 2.0, 3.0, 4.0), tokens=4)
    merged = Times(sent=0.0, arrived=(1.0, 3.0, 4.0), tokens=4)
    assert full_window([merged, whole]) == (3.0, 3)


def test_there_is_no_window_when_an_answer_ends_before_another_begins() -> None:
    assert full_window([Times(0.0, (1.0, 2.0), 2), Times(0.0, (3.0, 4.0), 2)]) is None


def test_a_cell_is_measured_over_its_waves() -> None:
    first = [Times(0.0, (1.0, 1.5, 2.0), 3), Times(0.0, (1.0, 1.5, 2.0), 3)]
    second = [Times(10.0, (13.0, 13.5, 14.0), 3), Times(10.0, (13.0, 13.5, 14.0), 3)]
    found = measure([first, second])
    assert found.tokens_per_s == pytest.approx(12 / (2.0 + 4.0))  # the pause between the waves doesn't count
    assert found.first_p50 == pytest.approx((1.0 + 3.0) / 2)
    assert found.next_p50 == found.next_p99 == pytest.approx(0.5)
    assert found.step == pytest.approx(0.5)


def test_one_slow_wave_leaves_the_step_as_it_is() -> None:
    waves = [[Times(0.0, (1.0, 1.0 + gap, 1.0 + 2 * gap), 3)] for gap in (0.5, 0.5, 9.0)]
    assert measure(waves).step == pytest.approx(0.5)
