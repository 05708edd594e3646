"""Results that survive an interruption, and those that don't belong to this run."""

from __future__ import annotations

from pathlib import Path

import pytest

from lethe_offsets.errors import InvalidInput
from lethe_server.bench.store import Key, Store

HEADER = {"settings": {"rounds": 2}, "machine": {"cores": "2"}}
KEY = Key("cell", "Lethe", 4, 16, 512, 1)


def test_a_second_run_finds_what_the_first_one_measured(tmp_path: Path) -> None:
    Store(tmp_path / "results.jsonl", HEADER).add(KEY, {"tokens_per_s": 1.5})
    again = Store(tmp_path / "results.jsonl", HEADER)
    assert KEY in again
    assert again.get(KEY) == {"tokens_per_s": 1.5}
    assert again.keys("cell") == [KEY]
    assert again.get(Key("cell", "Lethe")) is None


def test_a_line_that_was_cut_off_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    store = Store(path, HEADER)
    store.add(KEY, 1)
    store.add(Key("start", "Lethe"), 2)
    path.write_text(path.read_text()[:-5])
    again = Store(path, HEADER)
    assert KEY in again
    assert Key("start", "Lethe") not in again
    again.add(Key("start", "Lethe"), 3)
    assert Store(path, HEADER).get(Key("start", "Lethe")) == 3


@pytest.mark.parametrize(("part", "other"), [("settings", {"rounds": 3}), ("machine", {"cores": "4"})])
def test_results_of_other_settings_or_machines_are_not_mixed_in(tmp_path: Path, part: str, other: object) -> None:
    Store(tmp_path / "results.jsonl", HEADER).add(KEY, 1)
    with pytest.raises(InvalidInput, match=f"another {part}"):
        Store(tmp_path / "results.jsonl", {**HEADER, part: other})
    assert KEY in Store(tmp_path / "results.jsonl", HEADER)
