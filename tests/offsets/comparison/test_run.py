"""The comparison from end to end, on six authors and models of a few thousand parameters."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from lethe_offsets.comparison.builds import Builds
from lethe_offsets.comparison.contenders import choose_contenders
from lethe_offsets.comparison.judge import read_row
from lethe_offsets.comparison.run import reproduce

NAMES = "direct-grad_ascent,direct-npo,direct-dpo,offset-npo,offset-idk_ap,offset-uld,pair"


@pytest.fixture(scope="module")
def out(built: Builds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, with a finished comparison."""
    folder = tmp_path_factory.mktemp("comparison") / "out"
    shutil.copytree(built.out, folder)
    run(built, folder)
    return folder


def run(built: Builds, folder: Path, workers: int = 1) -> str:
    builds = dataclasses.replace(built, out=folder)
    contenders = choose_contenders(NAMES)
    return reproduce(builds, contenders, 2, workers, "lethe reproduce", Console(quiet=True)).read_text(encoding="utf-8")


def rows(page: str) -> dict[str, list[str]]:
    """The first table's rows by title."""
    lines = page.partition("| --- |")[2].partition("\n\n")[0].splitlines()[1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {title: rest for title, *rest in cells}


def test_the_table_has_every_contender_target_and_retrain_first(out: Path) -> None:
    page = (out / "forget10" / "table.md").read_text(encoding="utf-8")
    titles = list(rows(page))
    assert titles[:2] == ["Target", "Retrain"]
    assert titles[2:] == [
        "direct GA",
        "direct DPO",
        "direct NPO",
        "offset NPO",
        "offset idk_ap",
        "offset uld",
        "pair, linear",
        "pair, rank",
        "pair, linear, clean small model",
        "pair, rank, clean small model",
    ]
    assert rows(page)["Retrain"][1] == "1"  # its own truth ratios against themselves
    assert float(rows(page)["Target"][4]) > float(rows(page)["Retrain"][4])  # probability of the forget answers
    assert "Further seeds of the two best" in page
    assert len(re.findall(r"\| 2 seeds \|", page)) == 2


def test_each_row_tells_the_time_of_its_own_training(built: Builds, out: Path) -> None:
    names = [path.name for path in (out / "forget10" / "judged").iterdir() if path.name.endswith("-seed1")]
    assert len(names) == 2
    assert all(read_row(dataclasses.replace(built, out=out), name).seconds > 0 for name in names)


def test_every_step_has_its_clock(out: Path) -> None:
    place = out / "forget10"
    steps = [path.name for path in (place / "trials").iterdir() if path.name != "steps"]
    steps += [f"judged-{path.name}" for path in (place / "judged").iterdir() if path.name != "steps"]
    clocks = {path.name.rpartition("-")[0]: float(path.read_text()) for path in (place / "clocks").iterdir()}
    assert sorted(clocks) == sorted(steps)
    assert all(seconds > 0 for name, seconds in clocks.items() if name.startswith("judged-"))


def test_a_second_run_finds_everything_done(built: Builds, out: Path) -> None:
    before = times(out)
    page = (out / "forget10" / "table.md").read_text(encoding="utf-8")
    assert run(built, out) == page
    assert times(out) == before


def test_what_is_missing_is_done_again_to_the_same_table_over_two_processes(built: Builds, out: Path) -> None:
    trials = out / "forget10" / "trials"
    before, page = times(out), (out / "forget10" / "table.md").read_text(encoding="utf-8")
    redone = [path for path in trials.iterdir() if path.name.startswith(("direct-npo", "offset-uld"))]
    assert len(redone) >= 4
    for path in redone:
        shutil.rmtree(path)
    assert untimed(run(built, out, workers=2)) == untimed(page)
    after = times(out)
    assert {path for path in after if after[path] != before.get(path)} == {
        path for path in after if path.parts[1] == "trials" and path.parts[2].startswith(("direct-npo", "offset-uld"))
    }


def times(out: Path) -> dict[Path, int]:
    """When each file of the trials and of what was judged was written."""
    found = [path for part in ("trials", "judged") for path in (out / "forget10" / part).rglob("*") if path.is_file()]
    return {path.relative_to(out): path.stat().st_mtime_ns for path in found if path.parent.name != "steps"}


def untimed(page: str) -> list[str]:
    """The lines without their last cells, which are seconds, and without the paragraph on times."""
    lines = re.sub(r"All of it took.*?\n\n", "", page, flags=re.DOTALL).splitlines()
    return [line.strip("| ").rpartition("|")[0] if line.startswith("|") else line for line in lines]
