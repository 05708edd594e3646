"""Fine-tuning the large model itself with the objectives of offset training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lethe_offsets.comparison.builds import Builds
from lethe_offsets.comparison.direct import direct_trainee, tune_directly
from lethe_offsets.comparison.probability import probabilities
from lethe_offsets.errors import InvalidInput
from lethe_offsets.pretraining.fit import bfloat16
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import read_examples
from lethe_offsets.training.logits import model_logits, record_logits
from lethe_offsets.training.methods import load_method
from lethe_offsets.training.progress import silent
from lethe_offsets.training.reference import load_model, load_tokenizer

KNOBS = {"epochs": 10, "batch_size": 2, "learning_rate": 2e-3}


def tuned(built: Builds, config: TrainingConfig, out: Path) -> Path:
    sets = built.place / "sets"
    tune_directly(config, built.path("large"), sets / "forget.jsonl", sets / "retain.jsonl", out, "cpu", silent)
    return out


def mean_probability(model: Path, data: Path) -> float:
    examples = read_examples(data, load_tokenizer(model), "retain", 512)
    return float(probabilities(examples, model_logits(load_model(model))).mean())


def configured(method: str, **knobs: float) -> TrainingConfig:
    alone = {} if method == "grad_ascent" else {"retain_batch_size": 4}
    return load_method(method, None, KNOBS | {"early_stop_retain": 0.0} | alone | knobs)


@pytest.mark.parametrize("method", ["grad_ascent", "grad_diff", "kl_min", "dpo", "npo", "simnpo"])
def test_every_method_lowers_the_forget_answers(method: str, built: Builds, tmp_path: Path) -> None:
    model = tuned(built, configured(method), tmp_path / "model")
    forget = built.place / "sets" / "forget.jsonl"
    assert mean_probability(model, forget) < 0.8 * mean_probability(built.path("large"), forget)


def test_a_retain_term_keeps_more_than_none(built: Builds, tmp_path: Path) -> None:
    retain = built.place / "sets" / "retain.jsonl"
    alone, held = (
        mean_probability(tuned(built, configured(method), tmp_path / method), retain)
        for method in ("grad_ascent", "grad_diff")
    )
    assert held > alone


def test_a_rate_that_breaks_the_model_at_once_is_refused(built: Builds, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"learning_rate: got 0\.5; accepted: a lower one"):
        tuned(built, configured("grad_ascent", learning_rate=0.5, early_stop_retain=0.9), tmp_path / "model")


def test_objectives_see_the_model_and_what_it_was_before(built: Builds, tmp_path: Path) -> None:
    words, model = load_tokenizer(built.path("large")), load_model(built.path("large"))
    examples = read_examples(built.place / "sets" / "forget.jsonl", words, "forget", 512)
    logits = model_logits(model)
    nothing = lambda ids, mask, asked: torch.zeros(int(asked.sum()), 1)  # noqa: E731
    fixed = record_logits(examples, logits, nothing, tmp_path, torch.float32)
    trainee = direct_trainee(TrainingConfig(), model, examples, fixed)
    with torch.no_grad():
        next(model.parameters()).mul_(1.1)
    rows = trainee.ensemble.batch([0, 1]).forget
    with bfloat16("cpu"):
        first = torch.tensor([examples[0].ids])
        expected = logits(first, torch.ones_like(first), torch.ones_like(first).bool())
    own = [place for place, unit in enumerate(examples[0].unit) if unit >= 0]
    # The end of the answer is predicted but not forgotten, so it is not among these rows.
    torch.testing.assert_close(rows.ensemble[: len(own)], expected[[p - 1 for p in own]].float(), atol=0.1, rtol=0.05)
    assert rows.ensemble.requires_grad
    assert not torch.allclose(rows.large, rows.ensemble.detach(), atol=0.05)
    assert set(trainee.weights()) == {f"plus.{name}" for name, _ in model.named_parameters()}


def test_an_interrupted_run_ends_with_the_same_model(built: Builds, tmp_path: Path) -> None:
    config = configured("npo", checkpoint_every=2)
    whole = load_model(tuned(built, config, tmp_path / "whole"))
    sets = built.place / "sets"

    class Interrupted(Exception):
        pass

    def interrupt(label: str, done: int, total: int, note: str = "") -> None:
        if label == "large model" and done == 5:
            raise Interrupted

    arguments = (built.path("large"), sets / "forget.jsonl", sets / "retain.jsonl", tmp_path / "parts", "cpu")
    with pytest.raises(Interrupted):
        tune_directly(config, *arguments, interrupt)
    seen: list[int] = []
    tune_directly(config, *arguments, lambda label, done, *_: seen.append(done) if label == "large model" else None)
    assert seen[0] == 5
    again = dict(load_model(tmp_path / "parts").named_parameters())
    assert all(torch.equal(weight, again[name]) for name, weight in whole.named_parameters())
