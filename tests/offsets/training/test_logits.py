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


def test_a_model_gives_the_positions_asked_for(pair: tiny.TinyPair) -> None:
    """With its gradient, and its head as it was afterwards."""
    model = load_model(pair.small)
    ids = torch.randint(3, 380, (3, 7))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    asked = torch.rand(3, 7) < 0.5
    asked[1, 4:] = False
    whole = model(input_ids=ids, attention_mask=mask).logits[asked]
    found = model_logits(model)(ids, mask, asked)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)
    assert model(input_ids=ids).logits.shape[:2] == ids.shape
    weight = model.get_input_embeddings().weight
    gradients = [torch.autograd.grad(logits.log_softmax(-1)[:, 5].sum(), weight)[0] for logits in (whole, found)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


def test_the_head_sees_only_what_is_asked_for(pair: tiny.TinyPair) -> None:
    model, seen = load_model(pair.small), []
    model.get_output_embeddings().register_forward_hook(lambda head, given, out: seen.append(tuple(out.shape)))
    asked = torch.zeros(2, 5, dtype=torch.bool)
    asked[0, 1] = asked[1, 3] = asked[1, 4] = True
    model_logits(model)(torch.ones(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.long), asked)
    assert seen == [(3, 384)]


def test_a_model_without_a_module_for_its_head(pair: tiny.TinyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(pair.small)
    asked = torch.ones(1, 4, dtype=torch.bool)
    given = torch.arange(3, 7)[None], torch.ones(1, 4, dtype=torch.long), asked
    usual = model_logits(model)(*given)
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    torch.testing.assert_close(model_logits(model)(*given), usual, atol=1e-5, rtol=1e-5)
