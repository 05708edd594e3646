"""The fixed logits, from a model and from a recording of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import tiny
from lethe_offsets.training.data import Example, read_examples
from lethe_offsets.training.logits import FixedLogits, Large, model_logits, record_logits
from lethe_offsets.training.reference import load_model
from top_k import record_model


@pytest.fixture
def examples(forget_file: Path, retain_file: Path, words: PreTrainedTokenizerFast) -> list[Example]:
    return [*read_examples(forget_file, words, "forget", 64), *read_examples(retain_file, words, "retain", 64)]


def fixed(pair: tiny.TinyPair, examples: list[Example], large: Large, folder: Path) -> FixedLogits:
    folder.mkdir()
    return record_logits(examples, large, model_logits(load_model(pair.small)), folder, torch.float32)


def test_a_recording_stands_in_for_the_model(
    pair: tiny.TinyPair, examples: list[Example], words: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    large = load_model(pair.large)
    full = fixed(pair, examples, model_logits(large), tmp_path / "full")
    errors = []
    for top_k in (8, 96, 384):
        recording = record_model(large, examples, words, top_k, tmp_path / f"{top_k}.safetensors")
        rebuilt = fixed(pair, examples, recording, tmp_path / str(top_k))
        assert torch.equal(rebuilt.minus, full.minus)
        assert rebuilt.start == full.start
        wanted = full.large.log_softmax(dim=-1)
        errors.append(float((wanted.exp() * (wanted - rebuilt.large)).sum(dim=-1).mean()))
        assert rebuilt.large.logsumexp(dim=-1).abs().max() < 1e-3
    assert errors[0] > errors[1] > 1e-4  # nats
    assert abs(errors[2]) < 1e-5
