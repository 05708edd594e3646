"""What is recorded, so that training with a method finds what it reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

import tiny
from lethe_offsets.errors import InvalidInput
from lethe_offsets.recording.data import merged, read_data
from lethe_offsets.recording.file import Recording
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, encode_set
from lethe_offsets.training.methods import load_method
from lethe_offsets.training.reference import load_model
from lethe_offsets.training.sources import load_records
from top_k import record_model

METHODS = ("npo", "dpo", "idk_ap")


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return tiny.tokenizer()


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    lines = {
        "forget": '{"question": "Where was Marta born?", "answer": "She was born in Bergen."}\n',
        "retain": '{"question": "hello", "answer": "I am well."}\n',
    }
    for role, line in lines.items():
        (tmp_path / role).write_text(line)
    return [str(tmp_path / role) for role in lines]


@pytest.mark.parametrize("method", METHODS)
def test_a_recording_for_a_method_serves_that_method_and_calibration(
    method: str, sets: list[str], words: PreTrainedTokenizerFast, small_path: Path, tmp_path: Path
) -> None:
    plain, own = TrainingConfig(), load_method(method)

    def record(configs: list[TrainingConfig]) -> Recording:
        examples = read_data(sets, words, configs)
        return record_model(load_model(small_path), examples, words, 2, tmp_path / str(len(configs)))

    def encoded(config: TrainingConfig) -> list[Example]:
        roles = ("forget", "retain")
        return [
            e
            for role, source in zip(roles, sets, strict=True)
            for e in encode_set(load_records(source), words, role, config)
        ]

    both = record([plain, own])
    both.check(encoded(own), words)
    both.check(encoded(plain), words)
    if method != "npo":
        with pytest.raises(InvalidInput, match="record them"):
            record([plain]).check(encoded(own), words)


def test_two_examples_of_the_same_tokens_are_asked_for_once() -> None:
    one = Example((0, 5, 6, 7), (False, False, True, True), (-1, -1, 0, 0))
    other = Example((0, 8, 9), (False, True, True), (-1, 0, 0))
    more = Example(one.ids, (False, True, False, True), one.unit)
    assert [example.answer for example in merged([one, other, more])] == [(False, True, True, True), other.answer]
