"""The training loop: it forgets, it keeps, and an interruption changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import tiny
from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.checkpoint import CHECKPOINT_FILE
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, read_examples
from lethe_offsets.training.logits import model_logits
from lethe_offsets.training.loop import train
from lethe_offsets.training.objectives import KL, NPO
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.reference import load_model

CONFIG = TrainingConfig(
    objective=NPO(beta=0.5), learning_rate=5e-3, epochs=6, batch_size=1, rank=4, lora_alpha=8, checkpoint_every=4
)
STEPS = 12  # two examples to forget, six times


class Interrupted(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def forget(words: PreTrainedTokenizerFast, forget_file: Path) -> list[Example]:
    return read_examples(forget_file, words, "forget", 512)


@pytest.fixture
def retain(words: PreTrainedTokenizerFast, retain_file: Path) -> list[Example]:
    return read_examples(retain_file, words, "retain", 512)


def run(
    pair: tiny.TinyPair,
    forget: list[Example],
    retain: list[Example],
    folder: Path,
    config: TrainingConfig = CONFIG,
    report: Report = silent,
) -> dict[str, Tensor]:
    """The adapter's weights after a training run."""
    large, small = model_logits(load_model(pair.large)), load_model(pair.small)
    adapter = train(config, large, small, forget, retain, torch.tensor([0, 1, 2]), folder, report)
    return load_file(adapter / "adapter_model.safetensors")


def interrupt_at(step: int) -> Report:
    def report(label: str, done: int, total: int) -> None:
        if label == "forget module" and done == step:
            raise Interrupted

    return report


def test_a_run_reports_every_step_and_saves_all_linear_layers(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    said: list[tuple[str, int, int]] = []
    weights = run(pair, forget, retain, tmp_path / "run", report=lambda *step: said.append(step))
    assert [step for step in said if step[0] == "forget module"] == [
        ("forget module", step, STEPS) for step in range(1, STEPS + 1)
    ]
    assert len(weights) == 2 * 7 * 2  # A and B of seven linear layers in each of two layers
    assert all(weight.abs().sum() > 0 for weight in weights.values())


def test_an_interrupted_run_goes_on_to_the_same_adapter(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    whole = run(pair, forget, retain, tmp_path / "whole")
    done: list[int] = []
    with pytest.raises(Interrupted):
        run(pair, forget, retain, tmp_path / "run", report=interrupt_at(7))
    resumed = run(
        pair,
        forget,
        retain,
        tmp_path / "run",
        report=lambda label, step, total: done.append(step) if label == "forget module" else None,
    )
    assert done == list(range(5, STEPS + 1)), "it goes on after the checkpoint of step 4"
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight, rtol=0, atol=0)


def test_the_same_seed_gives_the_same_adapter_and_another_one_does_not(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    short = CONFIG.model_copy(update={"epochs": 1})
    first, again, other = (
        run(pair, forget, retain, tmp_path / name, short.model_copy(update={"seed": seed}))
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_the_checkpoint_of_another_run_is_refused(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        run(pair, forget, retain, tmp_path, report=interrupt_at(5))
    with pytest.raises(InvalidInput, match="same settings and data"):
        run(pair, forget, retain, tmp_path, CONFIG.model_copy(update={"learning_rate": 1e-3}))
    with pytest.raises(InvalidInput, match="same settings and data"):
        run(pair, forget, retain[:1], tmp_path)
    assert (tmp_path / CHECKPOINT_FILE).is_file()


def test_what_can_not_be_trained_is_refused(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="retain set"):
        run(pair, forget, [], tmp_path)
    with pytest.raises(InvalidInput, match="forget set"):
        run(pair, [], retain, tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    def large(ids: Tensor, mask: Tensor) -> Tensor:
        return torch.full((*ids.shape, 384), float("nan"))

    with pytest.raises(FloatingPointError, match="step 0"):
        train(CONFIG, large, load_model(pair.small), forget, retain, torch.tensor([0]), tmp_path)
    assert not (tmp_path / CHECKPOINT_FILE).exists()


def test_retaining_around_what_is_forgotten_spares_its_first_tokens(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    """With a heavy retain term on the very answers to forget, only the spared vocabulary lets them go."""
    same = [Example(example.ids, example.answer, (-1,) * len(example.ids)) for example in forget]
    heavy = CONFIG.model_copy(update={"retain": KL(weight=50.0), "epochs": 1})
    plain = run(pair, forget, same, tmp_path / "plain", heavy)
    around = run(pair, forget, same, tmp_path / "around", heavy.model_copy(update={"retain_around": True}))
    assert not any(torch.equal(plain[name], around[name]) for name in plain if "lora_B" in name)
