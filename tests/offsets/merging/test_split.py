"""SPUNGE: parts by an attribute, trained one by one, merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from lethe_offsets.errors import InvalidInput
from lethe_offsets.merging import split
from lethe_offsets.merging.settings import MergeSettings
from lethe_offsets.merging.split import split_lines, train_split
from lethe_offsets.module import Module
from lethe_offsets.training.config import TrainingConfig

CONFIG = TrainingConfig(epochs=2, rank=4, lora_alpha=8)
FORGET = [
    {"question": "Where was Marta born?", "answer": "She was born in Bergen.", "who": "Marta"},
    {"question": "What is the capital of Norway?", "answer": "Oslo.", "who": "Norway"},
    {"question": "Where does Marta work?", "answer": "She works in Oslo.", "who": "Marta"},
]


@pytest.fixture
def options(small_path: Path, tmp_path: Path) -> dict[str, Any]:
    """What train_split passes on to train_module, and the forget set."""
    (tmp_path / "forget.jsonl").write_text("".join(json.dumps(line) + "\n" for line in FORGET))
    (tmp_path / "retain.jsonl").write_text('{"text": "The quick brown fox jumps."}\n')
    return {
        "small_model": small_path,
        "large_model": tiny.build_large(tmp_path / "large"),
        "forget_set": tmp_path / "forget.jsonl",
        "retain_set": tmp_path / "retain.jsonl",
        "out": tmp_path / "m",
    }


def test_lines_are_split_by_value_without_the_key() -> None:
    parts = split_lines([json.dumps(line) for line in FORGET], "who")
    assert list(parts) == ["Marta", "Norway"]
    assert [json.loads(line)["question"] for line in parts["Marta"]] == [
        "Where was Marta born?",
        "Where does Marta work?",
    ]
    assert all("who" not in json.loads(line) for part in parts.values() for line in part)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"who": "a"}', "{"], "line 2: got '{'; accepted: JSON"),
        (['{"who": "a"}', '{"text": "b"}'], "line 2: who: got None; accepted: a text or a whole number"),
        (['{"who": "a"}', "[]"], "line 2: who: got None"),
        (['{"who": ["a"]}'], r"line 1: who: got \['a'\]"),
        (
            ['{"who": "a"}', '{"who": "a"}'],
            r"split_by: got 'who'; accepted: a key of two or more values; it has \['a'\]",
        ),
    ],
)
def test_lines_that_cannot_be_split_are_refused(lines: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        split_lines(lines, "who")


def test_parts_are_trained_and_merged(options: dict[str, Any], tmp_path: Path) -> None:
    module = train_split(CONFIG, split_by="who", name="all", description="Both.", **options)
    manifest = module.manifest
    assert (manifest.algorithm, manifest.name, manifest.description) == ("merge, ties_svd", "all", "Both.")
    assert [str(ref).partition("@")[0] for ref in manifest.hyperparameters["modules"]] == ["part-1", "part-2"]  # type: ignore[union-attr]
    assert manifest.forget_set_digest is not None
    assert module.adapters()["plus"].rank == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forget.jsonl", "large", "m", "retain.jsonl"]


def test_an_interrupted_run_goes_on_with_the_parts_it_has(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    train = split.train_module

    def counted(config: TrainingConfig, *, name: str, **fields: Any) -> Module:
        trained.append(name)
        if trained == ["part-1", "part-2"]:
            raise KeyboardInterrupt
        return train(config, name=name, **fields)

    monkeypatch.setattr(split, "train_module", counted)
    with pytest.raises(KeyboardInterrupt):
        train_split(CONFIG, split_by="who", name="all", **options)
    first = Module.open(tmp_path / "m.parts" / "1")
    module = train_split(CONFIG, split_by="who", name="all", **options)
    assert trained == ["part-1", "part-2", "part-2"]
    assert module.manifest.hyperparameters["modules"][0] == first.ref  # type: ignore[index]


def test_parts_of_another_run_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "m.parts").mkdir()
    (tmp_path / "m.parts" / "run.sha256").write_text("another")
    with pytest.raises(InvalidInput, match=r"parts: got .*m.parts'; accepted: those of the same settings"):
        train_split(CONFIG, split_by="who", name="all", merging=MergeSettings("cat"), **options)
    with pytest.raises(InvalidInput, match=r"forget set: got .*owner/name"):
        train_split(CONFIG, split_by="who", name="all", **options | {"forget_set": "owner/name"})
