from __future__ import annotations

from pathlib import Path

import pytest

from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation.sets import Sets
from lethe_offsets.evaluation.tofu.data import read_tofu
from lethe_offsets.evaluation.tofu.reference import Reference
from tiny_tofu import build_tofu


@pytest.fixture
def sets(tmp_path: Path) -> Sets:
    build_tofu(tmp_path / "tofu", "forget05")
    return read_tofu(build_tofu(tmp_path / "tofu"), "forget10")


@pytest.fixture
def reference(sets: Sets) -> Reference:
    return Reference(split="forget10", data=sets.forget_digest, model="m", log_truth_ratios=(0.5, -1.25))


def test_it_is_read_as_it_was_written(reference: Reference, tmp_path: Path) -> None:
    reference.write(tmp_path / "new" / "r.json")
    assert Reference.read(tmp_path / "new" / "r.json") == reference


def test_one_of_the_same_data_fits(reference: Reference, sets: Sets) -> None:
    reference.check(sets)


def test_one_of_another_split_is_refused(reference: Reference, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="reference: got 'forget10'; accepted: one of split forget05"):
        reference.check(read_tofu(tmp_path / "tofu", "forget05"))


def test_one_of_other_data_is_refused(reference: Reference, sets: Sets) -> None:
    with pytest.raises(InvalidInput, match=r"reference: data: got .* the digest of the 2 forget items"):
        reference.check(sets.first(2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no JSON", "reference r.json.*Invalid JSON"),
        ('{"split": "forget10"}', "reference r.json: data: got None; accepted: Field required"),
        (
            '{"split": "forget10", "data": "d", "model": "m", "log_truth_ratios": [1], "more": 1}',
            "reference r.json: more",
        ),
    ],
)
def test_a_file_that_is_none_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(InvalidInput, match=message):
        Reference.read(tmp_path / "r.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"reference: got .*; accepted: a file of --write-reference"):
        Reference.read(tmp_path / "r.json")
