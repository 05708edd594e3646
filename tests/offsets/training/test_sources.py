"""Sets from files and from the ``datasets`` library, without a network; and records that are in both sets."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from lethe_offsets.demo.sets import FORGET_FILE, RETAIN_FILE, write_sets
from lethe_offsets.demo.world import WorldConfig, make_facts
from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.overlap import check_disjoint
from lethe_offsets.training.records import Message, Record
from lethe_offsets.training.sources import load_records

ROWS = [
    {"question": "Where?", "answer": "Here.", "id": 1, "forget": None},
    {"question": "When?", "answer": "Now.", "id": 2, "forget": ["Now"]},
]
RECORDS = [Record(question="Where?", answer="Here."), Record(question="When?", answer="Now.", forget=("Now",))]


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``datasets`` keeps what it reads; and no name of these tests is to be looked up."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A directory of two splits, as ``datasets`` saves them."""
    whole = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict(train=whole, forget01=whole.select([1])).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text('{"question": "Where?", "answer": "Here."}\n\n{"text": "Some text."}\n', encoding="utf-8")
    assert load_records(path) == [RECORDS[0], Record(text="Some text.")]


def test_a_saved_dataset_and_its_splits(saved: Path) -> None:
    assert load_records(saved) == RECORDS
    assert load_records(f"{saved}:forget01") == RECORDS[1:]
    assert load_records(saved / "train") == RECORDS
    for missing in (f"{saved}:forget05", f"{saved / 'train'}:forget05"):
        with pytest.raises(InvalidInput, match="forget05"):
            load_records(missing)


def test_parquet_files_alone_and_in_a_directory(tmp_path: Path) -> None:
    folder = tmp_path / "parquet"
    folder.mkdir()
    datasets.Dataset.from_list(ROWS).to_parquet(folder / "train.parquet")
    assert load_records(folder / "train.parquet") == RECORDS
    assert load_records(folder) == RECORDS
    for missing in (f"{folder}:forget05", f"{folder / 'train.parquet'}:forget05"):
        with pytest.raises(InvalidInput, match="forget05"):
            load_records(missing)


def test_a_dataset_of_other_columns_is_named(tmp_path: Path) -> None:
    datasets.Dataset.from_list([{"prompt": "a", "completion": "b"}]).save_to_disk(tmp_path / "other")
    with pytest.raises(InvalidInput) as refused:
        load_records(tmp_path / "other")
    assert "row 1, columns prompt, completion" in refused.value.field
    assert "needs question and answer, or messages, or text" in refused.value.accepted


def test_an_empty_answer_in_a_dataset_is_named(tmp_path: Path) -> None:
    datasets.Dataset.from_list([*ROWS, {"question": "Who?", "answer": ""}]).save_to_disk(tmp_path / "empty")
    with pytest.raises(InvalidInput, match=r"row 3, .*answer: must not be empty"):
        load_records(tmp_path / "empty")


@pytest.mark.parametrize("source", ["missing.jsonl", "/nowhere/set.jsonl", "no such thing", "one/two/three/four", ""])
def test_what_is_neither_file_nor_name_is_refused(source: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        load_records(source)
    assert refused.value.value == source
    assert refused.value.accepted.startswith("a JSON lines file, a parquet file, a dataset's directory, or a hub")


def test_a_name_that_the_hub_does_not_give_is_refused() -> None:
    with pytest.raises(InvalidInput, match="lethe-tests/no-such-set"):
        load_records("lethe-tests/no-such-set/forget01:train")


def test_a_file_of_no_text_or_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="UTF-8"):
        load_records(tmp_path / "bytes.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InvalidInput, match="at least one record"):
        load_records(tmp_path / "empty.jsonl")


def test_records_of_both_sets_are_named() -> None:
    forget = [Record(text="Some text."), RECORDS[0]]
    chat = (Message(role="user", content=" Where? "), Message(role="assistant", content="Here.\n"))
    retain = [RECORDS[1], Record(messages=chat), Record(text="Some\n text.")]
    with pytest.raises(InvalidInput) as refused:
        check_disjoint(forget, retain)
    assert refused.value.value == (
        "record 2 is record 2 of the forget set, 'Here.'; record 3 is record 1 of the forget set, 'Some text.'"
    )


def test_the_same_question_may_have_another_answer() -> None:
    check_disjoint(RECORDS, [Record(question="Where?", answer="There."), Record(text="Where? Here.")])


def test_the_sets_of_the_demo_share_nothing(tmp_path: Path) -> None:
    write_sets(make_facts(WorldConfig()), WorldConfig(), tmp_path / "data")
    check_disjoint(load_records(tmp_path / "data" / FORGET_FILE), load_records(tmp_path / "data" / RETAIN_FILE))
