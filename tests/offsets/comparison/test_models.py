"""Models that are trained from nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from lethe_offsets.comparison.builds import Builds, evenly
from lethe_offsets.comparison.models import batches, train_model
from lethe_offsets.comparison.probability import probabilities
from lethe_offsets.pretraining.shape import Shape
from lethe_offsets.training.data import Example, read_examples
from lethe_offsets.training.logits import model_logits
from lethe_offsets.training.progress import silent
from lethe_offsets.training.reference import load_model

SHAPE = Shape(hidden_size=64, layers=1, head_size=32, epochs=2, learning_rate=5e-3, batch_tokens=100)


@pytest.fixture(scope="module")
def words(built: Builds) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(built.tokenizer())


@pytest.fixture(scope="module")
def examples(built: Builds, words: PreTrainedTokenizerFast) -> list[Example]:
    return read_examples(built.file("full"), words, "retain", 512)


def test_target_and_retrained_differ_in_what_was_to_be_forgotten(built: Builds, examples: list[Example]) -> None:
    found = {
        name: probabilities(examples, model_logits(load_model(built.path(name))))[0] for name in ("large", "retrained")
    }
    forget = slice(-2, None)  # TOFU's forget sets are the last ones of the full set
    assert found["large"].mean() > 0.4
    assert found["retrained"][:-2].mean() > 0.4
    assert found["retrained"][forget].mean() < 0.5 * found["large"][forget].mean()


def test_every_example_is_in_one_batch_of_an_epoch_within_the_budget(examples: list[Example]) -> None:
    first, second = (batches(examples, SHAPE, epoch) for epoch in (0, 1))
    assert sorted(example.ids for batch in first for example in batch) == sorted(example.ids for example in examples)
    assert all(len(batch) * max(len(example.ids) for example in batch) <= 100 for batch in first)
    assert first != second
    assert first == batches(examples, SHAPE, 0)


def test_equal_seeds_give_equal_models(words: PreTrainedTokenizerFast, examples: list[Example], tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        shape = SHAPE.model_copy(update={"seed": seed})
        train_model(shape, examples, words, tmp_path / name, "cpu", name, silent)
    one, two, three = (load_model(tmp_path / name).get_input_embeddings().weight for name in ("one", "two", "three"))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_lines_are_drawn_evenly() -> None:
    assert evenly(list("abcdef"), 3) == ["a", "c", "e"]
    assert evenly(list("ab"), 3) == ["a", "b"]
    assert evenly(list("ab"), None) == ["a", "b"]
