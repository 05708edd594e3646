"""The table, the verdict on the claim, and the page."""

from __future__ import annotations

import dataclasses

import pytest

from lethe_offsets.comparison.builds import Builds
from lethe_offsets.comparison.judge import Row
from lethe_offsets.comparison.page import Took, page
from lethe_offsets.comparison.table import COLUMNS, cells, markdown, ranked, spread, verdict
from lethe_offsets.pair import Rule


def row(name: str, kind: str, quality: float, utility: float, seconds: float = 10.0) -> Row:
    numbers = {"forget_quality": quality, "utility": utility, "rouge.forget": 0.25, "leak.rouge_100": 0.5}
    rule = Rule(mode="rank", rank_k=5) if kind == "pair" else Rule()
    return Row(
        name=name,
        title=name.title(),
        kind=kind,
        rate=None if kind == "model" else 1e-3,
        rule=None if kind == "model" else rule,
        seconds=seconds,
        parameters=12345,
        numbers=numbers,
        truth_ratios=(0.0,),
    )


TARGET, RETRAIN = row("target", "model", 1e-20, 0.8), row("retrain", "model", 1.0, 0.79)


def test_a_row_has_a_cell_for_each_column_and_a_dash_for_what_is_missing() -> None:
    found = dict(zip(("title", "rate", *COLUMNS), cells(row("pair", "pair", 0.31, 0.777)), strict=True))
    assert found["title"] == "Pair"
    assert found["rate"] == "0.001, k 5"
    assert found["forget quality"] == "0.31"
    assert found["utility"] == "0.777"
    assert found["Leak@100"] == "0.500"
    assert found["extraction strength"] == "-"
    assert found["trained parameters"] == "12,345"
    lines = markdown([TARGET, RETRAIN]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| Target |  | 1e-20 | 0.800 |")


def test_95_percent_of_the_utility_come_before_forget_quality() -> None:
    rows = [TARGET, RETRAIN, row("harmful", "direct", 0.9, 0.75), row("weak", "offset", 0.01, 0.8)]
    rows.append(row("good", "pair", 0.2, 0.76))  # 0.95 * 0.8 = 0.76; 0.75 is below
    assert [found.name for found in ranked(rows)] == ["good", "weak", "harmful"]


def test_the_claim_holds_where_both_kinds_do_it_and_no_direct_tuning_beats_them_on_both() -> None:
    rows = [TARGET, RETRAIN, row("one", "offset", 0.06, 0.78), row("two", "pair", 0.3, 0.77)]
    rows.append(row("three", "direct", 0.5, 0.775))
    lines = verdict(rows)
    assert lines[0].endswith("utility: yes: One.")
    assert lines[1].endswith("utility: yes: Two.")
    assert lines[2] == "Direct fine-tuning that is better on both: Three than Two."


@pytest.mark.parametrize(("quality", "utility"), [(0.05, 0.8), (0.9, 0.759)])
def test_the_claim_fails_on_either_number(quality: float, utility: float) -> None:
    lines = verdict([TARGET, RETRAIN, row("one", "offset", quality, utility)])
    assert [line.endswith("utility: no.") for line in lines] == [True, True]


def test_a_test_that_tells_nothing_apart_is_called_so() -> None:
    lines = verdict([row("target", "model", 0.33, 0.8), RETRAIN, row("one", "offset", 0.4, 0.8)])
    assert lines[0] == "Too few questions: forget quality can't even tell Target from Retrain (0.33)."
    assert "Too few" not in "".join(verdict([TARGET, RETRAIN]))


def test_several_seeds_are_shown_with_their_range() -> None:
    runs = [row("one", "offset", quality, 0.8, seconds) for quality, seconds in ((0.1, 10), (0.2, 20), (0.3, 30))]
    found = dict(zip(("title", "seeds", *COLUMNS), spread("One", runs), strict=True))
    assert found["seeds"] == "3 seeds"
    assert found["forget quality"] == "0.2 (0.1 to 0.3)"
    assert found["utility"] == "0.800"
    assert found["membership AUC"] == "-"


def test_the_page_says_how_it_was_made_and_what_broke_down(built: Builds) -> None:
    small = dataclasses.replace(built)
    took = Took(models=600.0, trainings=1200.0, judging=90.0)
    text = page(small, [TARGET, RETRAIN], [], ["direct GA"], took, "lethe reproduce tofu --size mini")
    assert "    lethe reproduce tofu --size mini\n" in text
    assert "at every rate: direct GA." in text
    assert "Llama, 2 layers of 64, 40 epochs" in text
    assert "Leak@3" in text
    assert "6 records of the retain set" in text
    assert "10 minutes for the models, 20 for all trainings" in text
    assert "2 for judging, 32 in all" in text
