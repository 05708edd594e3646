"""Training a module further."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from lethe_offsets.create import create_module
from lethe_offsets.digests import small_model_digest
from lethe_offsets.errors import ModuleIncompatible
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.lora import add_adapter
from lethe_offsets.training.recipe import train_module
from lethe_offsets.training.reference import load_model
from lethe_offsets.training.start import read_start, start_from

CONFIG = TrainingConfig(epochs=1, rank=4, lora_alpha=8, learning_rate=1e-12)


@pytest.fixture(scope="module")
def start(pair: tiny.TinyPair, tmp_path_factory: pytest.TempPathFactory) -> Module:
    folder = tmp_path_factory.mktemp("start")
    targets = (*tiny.ATTENTION, *tiny.MLP)
    adapter = tiny.random_adapter(pair.small, folder / "plus", rank=4, seed=1, target_modules=targets, lora_alpha=3)
    return create_module("m", pair.small, out=folder / "m", plus=adapter)


def test_a_run_begins_with_the_weights_of_the_start(pair: tiny.TinyPair, start: Module) -> None:
    small = load_model(pair.small)
    lanes = {"plus": add_adapter(CONFIG, small)}
    start_from(read_start(start, CONFIG, small_model_digest(pair.small)), lanes)  # type: ignore[arg-type]
    for layer, expected in start.adapters()["plus"].pairs.items():
        found = lanes["plus"].get_base_model().get_submodule(layer).get_delta_weight("default")
        torch.testing.assert_close(found, expected.scaling * expected.b @ expected.a)


def test_a_module_is_trained_further(
    pair: tiny.TinyPair, start: Module, forget_file: Path, retain_file: Path, tmp_path: Path
) -> None:
    module = train_module(
        CONFIG,
        name="further",
        small_model=pair.small,
        large_model=pair.large,
        forget_set=forget_file,
        retain_set=retain_file,
        out=tmp_path / "m",
        start=start,
    )
    before, after = (found.adapters()["plus"].pairs for found in (start, module))
    assert before.keys() == after.keys()
    for layer, pair_ in after.items():  # the learning rate moves nothing
        expected = before[layer].scaling * before[layer].b @ before[layer].a
        torch.testing.assert_close(pair_.scaling * pair_.b @ pair_.a, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 8}, r"start: ranks: got \[4\]; accepted: \[8\]"),
        ({"rule": Rule(strength=0.5)}, "start: rule: got"),
    ],
)
def test_a_start_that_does_not_fit_the_run_is_refused(
    pair: tiny.TinyPair, start: Module, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ModuleIncompatible, match=message):
        read_start(start, CONFIG.model_copy(update=change), small_model_digest(pair.small))
    with pytest.raises(ModuleIncompatible, match="start: small model"):
        read_start(start, CONFIG, "sha256:0")
