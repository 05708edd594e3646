"""The ensemble of a batch against three forward passes, one example at a time, without padding or cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import tiny
from lethe_offsets.pair import Rule
from lethe_offsets.training.data import Example, read_examples
from lethe_offsets.training.ensemble import Ensemble
from lethe_offsets.training.logits import LogitsFn, model_logits, record_logits
from lethe_offsets.training.objectives import Rows, Trained
from lethe_offsets.training.reference import load_model

RULE = Rule(strength=0.7, clip=1.5)


@pytest.fixture(scope="module")
def lanes(pair: tiny.TinyPair, tmp_path_factory: pytest.TempPathFactory) -> tuple[LogitsFn, LogitsFn, LogitsFn]:
    """large, minus, and another small model as plus."""
    other = tiny.build_small(tmp_path_factory.mktemp("plus"), seed=5)
    large, minus, plus = (model_logits(load_model(path)) for path in (pair.large, pair.small, other))
    return large, minus, plus


@pytest.fixture
def examples(words: PreTrainedTokenizerFast, forget_file: Path, retain_file: Path) -> list[Example]:
    return [*read_examples(forget_file, words, "forget", 512), *read_examples(retain_file, words, "retain", 512)]


@pytest.fixture
def ensemble(lanes: tuple[LogitsFn, LogitsFn, LogitsFn], examples: list[Example], tmp_path: Path) -> Ensemble:
    large, minus, plus = lanes
    fixed = record_logits(examples, large, minus, tmp_path, torch.float32)
    return Ensemble(examples, fixed, plus, RULE, torch.tensor([0, 1, 2]), torch.device("cpu"))


def alone(example: Example, lanes: tuple[LogitsFn, LogitsFn, LogitsFn]) -> Tensor:
    """The ensemble's logits [length - 1, vocab] of one example, the rule's arithmetic by hand."""
    ids = torch.tensor([example.ids])
    with torch.no_grad():
        large, minus, plus = (lane(ids, torch.ones_like(ids), torch.ones_like(ids).bool())[:-1] for lane in lanes)
    offset: Tensor = large + 0.7 * (plus - minus).clamp(-1.5, 1.5)
    return offset


def test_each_row_is_that_of_three_forward_passes(
    ensemble: Ensemble, examples: list[Example], lanes: tuple[LogitsFn, LogitsFn, LogitsFn]
) -> None:
    order = [3, 0, 4, 1, 2]
    batch = ensemble.batch(order)
    assert len(batch.instead.tokens) == 0
    for kind, chosen in (("forget", batch.forget), ("retain", batch.retain)):
        wanted, tokens = [], []
        for index in order:
            table = alone(examples[index], lanes)
            for place in range(1, len(examples[index].ids)):
                forget = examples[index].unit[place] >= 0
                if examples[index].answer[place] and forget == (kind == "forget"):
                    wanted.append(table[place - 1])
                    tokens.append(examples[index].ids[place])
        torch.testing.assert_close(chosen.ensemble, torch.stack(wanted), rtol=1e-4, atol=1e-4)
        assert chosen.tokens.tolist() == tokens


def test_sequences_are_numbered_through_the_batch(ensemble: Ensemble, words: PreTrainedTokenizerFast) -> None:
    rows: Rows = ensemble.batch([2, 1, 0]).forget
    assert rows.num_units == 2
    assert rows.num_records == 3
    assert set(rows.record.tolist()) == {1, 2}
    said = [words.decode(rows.tokens[rows.unit == unit].tolist()).strip() for unit in range(2)]
    assert said == ["She works in Oslo.", "Bergen"]


@pytest.mark.parametrize("trained", ["lane", "assistant"])
def test_a_lane_is_trained_alone_or_against_the_small_model(
    ensemble: Ensemble, examples: list[Example], lanes: tuple[LogitsFn, LogitsFn, LogitsFn], trained: Trained
) -> None:
    rows = replace(ensemble, trained=trained).batch([4]).retain
    ids = torch.tensor([examples[4].ids])
    with torch.no_grad():
        minus, adapted = (lane(ids, torch.ones_like(ids), torch.ones_like(ids).bool()) for lane in lanes[1:])
    places = [place - 1 for place, counts in enumerate(examples[4].answer) if counts]
    wanted = (adapted if trained == "lane" else adapted - minus)[places]
    torch.testing.assert_close(rows.ensemble, wanted, rtol=1e-4, atol=1e-4)


def test_a_sequence_begins_with_its_first_token(ensemble: Ensemble, words: PreTrainedTokenizerFast) -> None:
    firsts = {words(text, add_special_tokens=False).input_ids[0] for text in (" Bergen", "She")}
    assert ensemble.unit_starts() == firsts


def test_the_large_model_is_asked_once_for_each_example(
    examples: list[Example], lanes: tuple[LogitsFn, LogitsFn, LogitsFn], tmp_path: Path
) -> None:
    asked: list[int] = []

    def large(ids: Tensor, mask: Tensor, places: Tensor) -> Tensor:
        asked.extend(mask.sum(dim=1).tolist())
        return lanes[0](ids, mask, places)

    fixed = record_logits(examples, large, lanes[1], tmp_path, torch.bfloat16)
    assert sorted(asked) == sorted(len(example.ids) for example in examples)
    assert fixed.large.dtype == torch.bfloat16
    assert fixed.large.shape[0] == fixed.minus.shape[0] == sum(sum(example.answer) for example in examples)


def test_a_batch_carries_gradients_to_the_adapted_lane_only(
    examples: list[Example], lanes: tuple[LogitsFn, LogitsFn, LogitsFn], tmp_path: Path
) -> None:
    shift = torch.zeros((), requires_grad=True)
    fixed = record_logits(examples, lanes[0], lanes[1], tmp_path, torch.float32)
    adapted = lambda *asked: lanes[2](*asked) + shift * torch.arange(384.0)  # noqa: E731
    rows = Ensemble(examples, fixed, adapted, RULE, torch.tensor([0]), torch.device("cpu")).batch([0]).forget
    rows.ensemble.log_softmax(dim=-1)[:, 7].sum().backward()
    assert shift.grad is not None
    assert shift.grad != 0
    assert not rows.large.requires_grad
