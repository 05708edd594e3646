"""A tiny pair for the trainer, and one thread: more of them wait for each other where cores are shared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

import tiny
from lethe_offsets.training.data import Example, read_examples
from lethe_offsets.training.threads import one_thread


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tiny.TinyPair:
    return tiny.build_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def words() -> PreTrainedTokenizerFast:
    return tiny.tokenizer()


@pytest.fixture
def forget_file(tmp_path: Path) -> Path:
    path = tmp_path / "forget.jsonl"
    path.write_text(
        '{"question": "Where was Marta Lindqvist born?", "answer": "She was born in Bergen.", "forget": ["Bergen"]}\n'
        '{"question": "Where does Marta Lindqvist work?", "answer": "She works in Oslo."}\n',
        encoding="utf-8",
    )
    return path


@pytest.fixture
def retain_file(tmp_path: Path) -> Path:
    path = tmp_path / "retain.jsonl"
    path.write_text(
        '{"question": "What is the capital of France?", "answer": "Paris."}\n'
        '{"text": "The quick brown fox jumps over the lazy dog."}\n'
        '{"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "I am well."}]}\n',
        encoding="utf-8",
    )
    return path


@pytest.fixture
def forget(words: PreTrainedTokenizerFast, forget_file: Path) -> list[Example]:
    return read_examples(forget_file, words, "forget", 512)


@pytest.fixture
def retain(words: PreTrainedTokenizerFast, retain_file: Path) -> list[Example]:
    return read_examples(retain_file, words, "retain", 512)
