"""The training loop: it forgets, it keeps, it stops, and an interruption changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.checkpoint import CHECKPOINT_FILE
from lethe_offsets.training.data import Example
from lethe_offsets.training.loop import draw_batches
from lethe_offsets.training.objectives import KL, GradientAscent
from lethe_offsets.training.sweep import rate_folder, train_rates
from trainees import CONFIG, Interrupted, interrupt_at, material, sweep, weights

STEPS = 12  # two examples to forget, six times


def test_a_run_reports_every_step_with_its_terms_and_saves_all_linear_layers(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    said: list[tuple[str, int, int, str]] = []
    sweep(pair, forget, retain, tmp_path, report=lambda *step: said.append((*step, "")[:4]))
    steps = [step for step in said if step[0] == "forget module"]
    assert [step[:3] for step in steps] == [("forget module", step, STEPS) for step in range(1, STEPS + 1)]
    assert all(step[3].startswith("npo ") and "  kl " in step[3] for step in steps)
    trained = weights(tmp_path)
    assert len(trained) == 2 * 7 * 2  # A and B of seven linear layers in each of two layers
    assert all(weight.abs().sum() > 0 for weight in trained.values())


def test_it_is_scored_before_the_first_step_every_few_and_after_the_last(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    (result,) = sweep(pair, forget, retain, tmp_path, CONFIG.model_copy(update={"score_every": 5}))
    assert [score.step for score in result.scores] == [0, 5, 10, 12]
    assert result.kept_step == STEPS
    assert result.scores[-1].forget < 0.5 * result.scores[0].forget


def test_an_interrupted_run_goes_on_to_the_same_adapter_and_scores(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    whole = sweep(pair, forget, retain, tmp_path / "whole")
    done: list[int] = []
    with pytest.raises(Interrupted):
        sweep(pair, forget, retain, tmp_path / "run", report=interrupt_at(7))
    resumed = sweep(
        pair,
        forget,
        retain,
        tmp_path / "run",
        report=lambda label, step, total, note="": done.append(step) if label == "forget module" else None,
    )
    assert done == list(range(5, STEPS + 1)), "it goes on after the checkpoint of step 4"
    assert resumed == whole
    for name, weight in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "run")[name], weight, rtol=0, atol=0)


def test_the_same_seed_gives_the_same_adapter_and_another_one_does_not(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    found = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        sweep(pair, forget, retain, tmp_path / name, CONFIG.model_copy(update={"seed": seed, "epochs": 1}))
        found[name] = weights(tmp_path / name)
    assert all(torch.equal(found["first"][name], found["again"][name]) for name in found["first"])
    assert not any(torch.equal(found["first"][name], found["other"][name]) for name in found["first"])


def test_the_checkpoint_of_another_run_is_refused(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        sweep(pair, forget, retain, tmp_path, report=interrupt_at(5))
    with pytest.raises(InvalidInput, match="same settings, models and data"):
        sweep(pair, forget, retain, tmp_path, CONFIG.model_copy(update={"warmup": 0.5}))
    with pytest.raises(InvalidInput, match="same settings, models and data"):
        sweep(pair, forget, retain[:1], tmp_path)
    assert (rate_folder(tmp_path, CONFIG.learning_rate) / CHECKPOINT_FILE).is_file()


def test_a_loss_that_is_not_finite_ends_the_run_without_a_score(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    data = material(pair, forget, retain, tmp_path)
    with torch.inference_mode():
        data.fixed.large.fill_(float("nan"))
    (result,) = train_rates(CONFIG, [1e-3], data, tmp_path)
    assert result.score is None
    assert not (rate_folder(tmp_path, 1e-3) / "plus").exists()


def test_an_unbounded_objective_is_stopped_where_it_still_kept_what_it_should(
    pair: tiny.TinyPair, forget: list[Example], tmp_path: Path
) -> None:
    """What is to be kept is what is to be forgotten, so that it is sure to fall."""
    same = [Example(example.ids, example.answer, (-1,) * len(example.ids)) for example in forget]
    ascent = {"objective": GradientAscent(), "retain": None, "epochs": 20, "score_every": 1, "learning_rate": 1e-3}
    config = CONFIG.model_copy(update=ascent)
    (free,) = sweep(pair, forget, same, tmp_path / "free", config)
    assert free.scores[-1].retain < 0.5 * free.scores[0].retain, "it runs away by itself"
    held = config.model_copy(update={"early_stop_retain": 0.8})
    (stopped,) = sweep(pair, forget, same, tmp_path / "held", held)
    *before, last = stopped.scores
    assert last.retain < 0.8 * before[0].retain
    assert all(score.retain >= 0.8 * before[0].retain for score in before)
    assert 0 < stopped.kept_step == before[-1].step < free.kept_step
    assert stopped.score == before[-1].against(before[0])
    with pytest.raises(Interrupted):
        sweep(pair, forget, same, tmp_path / "again", held, report=interrupt_at(stopped.kept_step + 1))
    assert sweep(pair, forget, same, tmp_path / "again", held) == [stopped]
    again = weights(tmp_path / "again", 1e-3)
    assert all(torch.equal(again[name], weight) for name, weight in weights(tmp_path / "held", 1e-3).items())


def test_retaining_around_what_is_forgotten_spares_its_first_tokens(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    """With a heavy retain term on the very answers to forget, only the spared vocabulary lets them go."""
    same = [Example(example.ids, example.answer, (-1,) * len(example.ids)) for example in forget]
    heavy = CONFIG.model_copy(update={"retain": KL(weight=50.0), "epochs": 1})
    sweep(pair, forget, same, tmp_path / "plain", heavy)
    sweep(pair, forget, same, tmp_path / "around", heavy.model_copy(update={"retain_around": True}))
    plain, around = weights(tmp_path / "plain"), weights(tmp_path / "around")
    assert not any(torch.equal(plain[name], around[name]) for name in plain if "lora_B" in name)


def test_every_pass_draws_each_example_once(forget: list[Example], retain: list[Example]) -> None:
    batches, steps = draw_batches(CONFIG.model_copy(update={"retain_batch_size": 2}), [*forget, *retain], len(forget))
    drawn = [next(batches) for _ in range(steps)]
    assert steps == STEPS
    assert [sorted(batch[0] for batch in drawn[at : at + 2]) for at in range(0, STEPS, 2)] == [[0, 1]] * 6
    assert [sorted([*drawn[at][1:], *drawn[at + 1][1:]]) for at in range(0, STEPS, 2)] == [[2, 3, 4]] * 6


def test_without_a_retain_term_no_example_to_keep_is_drawn(forget: list[Example], retain: list[Example]) -> None:
    batches, _ = draw_batches(CONFIG.model_copy(update={"retain": None}), [*forget, *retain], len(forget))
    assert {index for _ in range(4) for index in next(batches)} == {0, 1}
