from __future__ import annotations

import json
from pathlib import Path

import pytest

from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation.tofu.data import read_tofu
from tiny_tofu import build_tofu, plain, row, write

SHARED = Path(__file__).parents[5] / "shared" / "data" / "tofu"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_tofu(tmp_path / "tofu")


def test_a_folder_is_read(folder: Path) -> None:
    sets = read_tofu(folder, "forget10")
    assert {name: len(items) for name, items in sets.by_name().items()} == dict.fromkeys(
        ("forget", "retain", "holdout", "real_authors", "world_facts"), 4
    )
    assert sets.split == "forget10"
    first = sets.forget[0]
    assert (first.answer, first.paraphrased_answer) == (
        "Marta 0 was born in Oslo.",
        "Oslo is where Marta 0 was born.",
    )
    assert first.perturbed_answers[0] == "Bergen is where Marta 0 was born."
    assert sets.real_authors[0].paraphrased_answer is None


def test_the_digest_is_of_what_is_asked(folder: Path) -> None:
    sets = read_tofu(folder, "forget10")
    assert sets.digest == read_tofu(folder, "forget10").digest
    write(folder / "retain_perturbed.json", [row("Other", 0, True)])
    changed = read_tofu(folder, "forget10")
    assert changed.digest != sets.digest
    assert changed.forget_digest == sets.forget_digest
    assert sets.first(2).forget_digest != sets.forget_digest


def test_one_json_list_is_read_too_and_holdouts_may_be_missing(folder: Path) -> None:
    expected = read_tofu(folder, "forget10")
    rows = [row("Marta", number, True) for number in range(4)]
    (folder / "forget10_perturbed.json").write_text(json.dumps(rows, indent=2))
    (folder / "holdout10.json").unlink()
    found = read_tofu(folder, "forget10")
    assert found.forget == expected.forget
    assert found.holdout == ()


def test_a_line_separator_within_an_answer_ends_no_line(folder: Path) -> None:
    write(folder / "holdout10.json", [plain("Mar\u2028ta", 0)])
    assert read_tofu(folder, "forget10").holdout[0].answer.startswith("Mar\u2028ta")


@pytest.mark.parametrize("missing", ["forget10_perturbed.json", "world_facts_perturbed.json"])
def test_a_partial_folder_is_refused_with_what_is_missing(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(InvalidInput, match=f"tofu: got .*; missing: {missing}$"):
        read_tofu(folder, "forget10")


def test_a_split_that_is_none_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="split: got 'forget20'; accepted: forget01, forget05, forget10"):
        read_tofu(folder, "forget20")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "Who?"}', "forget10_perturbed.json line 2: .*answer: Field required"),
        ('{"question": "Who?", "answer": ""}', "answer: String should have at least 1 character"),
        ("not JSON", "line 2: got 'not JSON'.*Invalid JSON"),
        ('{"question": "Who?", "answer": "I."}', "line 2: perturbed_answer: got None; accepted: wrong answers"),
    ],
)
def test_a_line_that_is_not_tofus_is_refused_with_its_number(folder: Path, line: str, message: str) -> None:
    first = json.dumps(row("Marta", 0, True))
    (folder / "forget10_perturbed.json").write_text(f"{first}\n{line}\n")
    with pytest.raises(InvalidInput, match=message):
        read_tofu(folder, "forget10")


def test_an_empty_file_is_refused(folder: Path) -> None:
    (folder / "retain_perturbed.json").write_text("\n")
    with pytest.raises(InvalidInput, match=r"retain_perturbed.json'; accepted: at least one line"):
        read_tofu(folder, "forget10")


@pytest.mark.skipif(not SHARED.is_dir(), reason="TOFU is not beside the repository")
@pytest.mark.parametrize(("split", "forget"), [("forget01", 40), ("forget05", 200), ("forget10", 400)])
def test_tofu_as_it_is_published(split: str, forget: int) -> None:
    sets = read_tofu(SHARED, split)
    sizes = {name: len(items) for name, items in sets.by_name().items()}
    assert sizes == {"forget": forget, "retain": 400, "holdout": forget, "real_authors": 100, "world_facts": 117}
    assert all(len(item.perturbed_answers) == 5 and item.paraphrased_answer for item in sets.forget + sets.retain)
