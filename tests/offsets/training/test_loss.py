"""The terms of a batch: which rows each method sees, how answers are paired, and that padding doesn't count."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import tiny
from lethe_offsets.pair import Rule
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, encode_set, groups
from lethe_offsets.training.ensemble import Ensemble
from lethe_offsets.training.logits import LogitsFn, model_logits, pad, record_logits
from lethe_offsets.training.loss import step_loss
from lethe_offsets.training.methods import METHODS, load_method
from lethe_offsets.training.records import Record
from lethe_offsets.training.reference import load_model

FORGET = [
    Record(question="Where was Marta Lindqvist born?", answer="She was born in Bergen."),
    Record(question="Where does Marta Lindqvist work?", answer="In Oslo."),
    Record(question="hello", answer="The quick brown fox jumps over the lazy dog and runs back to the river."),
]
RETAIN = [
    Record(question="What is the capital of France?", answer="Paris."),
    Record(question="One, two", answer="three, four, five, six, seven, eight, nine, ten, 0123456789."),
]
NONE = torch.empty(0, dtype=torch.long)


@dataclass(frozen=True, eq=False)
class Run:
    """A method's examples, the groups that batches are drawn from, and the logits."""

    config: TrainingConfig
    ensemble: Ensemble
    groups: list[list[int]]
    lanes: tuple[LogitsFn, LogitsFn, LogitsFn]

    def terms(self, chosen: Sequence[int]) -> dict[str, float]:
        """By numbers of the groups; the forget set's come first."""
        indices = [index for number in chosen for index in self.groups[number]]
        return {name: term.value.item() for name, term in step_loss(self.config, self.ensemble, indices, NONE).items()}

    def log_prob(self, index: int, lane: str) -> float:
        """Of the predicted tokens of an example, by one forward pass without padding, in plain sums."""
        example = self.ensemble.examples[index]
        whole = torch.ones(1, len(example.ids), dtype=torch.long)
        large, adapted, minus = (
            pass_(torch.tensor([example.ids]), whole, whole.bool()).tolist() for pass_ in self.lanes
        )
        total = 0.0
        for place in range(1, len(example.ids)):
            if example.answer[place]:
                row = large[place - 1]
                if lane == "ensemble":
                    shifts = zip(adapted[place - 1], minus[place - 1], strict=True)
                    row = [value + plus - less for value, (plus, less) in zip(row, shifts, strict=True)]
                total += row[example.ids[place]] - math.log(sum(math.exp(value) for value in row))
        return total


@pytest.fixture(scope="module")
def lanes(pair: tiny.TinyPair, tmp_path_factory: pytest.TempPathFactory) -> tuple[LogitsFn, LogitsFn, LogitsFn]:
    """large, adapted, minus."""
    other = tiny.build_small(tmp_path_factory.mktemp("adapted"), seed=5)
    large, adapted, minus = (model_logits(load_model(path)) for path in (pair.large, other, pair.small))
    return large, adapted, minus


@pytest.fixture
def run(
    request: pytest.FixtureRequest,
    lanes: tuple[LogitsFn, LogitsFn, LogitsFn],
    words: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> Iterator[Run]:
    config = load_method(request.param)
    examples: list[Example] = []
    for records, role in ((FORGET, "forget"), (RETAIN, "retain")):
        examples += encode_set(records, words, role, config)  # type: ignore[arg-type]
    fixed = record_logits(examples, lanes[0], lanes[2], tmp_path, torch.float32)
    trained = config.objective.trained
    ensemble = Ensemble(examples, fixed, lanes[1], Rule(), NONE, torch.device("cpu"), trained)
    with torch.no_grad():
        yield Run(config, ensemble, groups(examples, config), lanes)


every_method = pytest.mark.parametrize("run", METHODS, indirect=True)


@every_method
def test_each_method_has_its_terms(run: Run) -> None:
    wanted = [run.config.objective.name] + ([run.config.retain.name] if run.config.retain else [])
    terms = run.terms(range(5))
    assert list(terms) == wanted
    assert all(math.isfinite(term) for term in terms.values())


@every_method
def test_padding_does_not_count(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def longer(examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
        ids, mask, predicted = pad(examples)
        return F.pad(ids, (0, 9), value=7), F.pad(mask, (0, 9)), F.pad(predicted, (0, 9))

    terms = run.terms(range(5))
    monkeypatch.setattr("lethe_offsets.training.ensemble.pad", longer)
    assert run.terms(range(5)) == {name: pytest.approx(term, rel=1e-5) for name, term in terms.items()}


@every_method
def test_what_else_is_in_a_batch_does_not_change_the_forget_term(run: Run) -> None:
    name = run.config.objective.name
    alone, together = run.terms([1])[name], run.terms([1, 3, 4])[name]
    assert together == pytest.approx(alone, rel=1e-4)


@every_method
def test_the_order_of_a_batch_does_not_count(run: Run) -> None:
    order = list(range(5))
    terms = run.terms(order)
    random.Random(1).shuffle(order)
    assert run.terms(order) == {name: pytest.approx(term, rel=1e-4) for name, term in terms.items()}


@pytest.mark.parametrize("run", ["dpo"], indirect=True)
def test_dpo_compares_two_answers_of_one_question(run: Run) -> None:
    def gain(index: int) -> float:
        return run.log_prob(index, "ensemble") - run.log_prob(index, "large")

    margins = [gain(instead) - gain(own) for own, instead in run.groups[:3]]
    expected = sum(20 * math.log(1 + math.exp(-0.1 * margin)) for margin in margins) / 3
    assert run.terms(range(3))["dpo"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("run", ["idk_ap"], indirect=True)
def test_answer_preservation_compares_two_answers_of_one_question(run: Run) -> None:
    ratios = [run.log_prob(other, "ensemble") - run.log_prob(own, "ensemble") for own, other in run.groups[3:]]
    expected = sum(10 * math.log(1 + math.exp(0.1 * ratio)) for ratio in ratios) / 2
    terms = run.terms(range(5))
    assert terms["answer_preservation"] == pytest.approx(expected, rel=1e-4)
    refusals = [index for (index,) in run.groups[:3]]
    tokens = sum(sum(run.ensemble.examples[index].answer) for index in refusals)
    nll = -sum(run.log_prob(index, "ensemble") for index in refusals) / tokens
    assert terms["idk"] == pytest.approx(nll, rel=1e-4)


@pytest.mark.parametrize("run", ["npo"], indirect=True)
def test_what_a_record_says_instead_is_taught_beside(run: Run, words: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    records = [FORGET[0].model_copy(update={"instead": "I am well."})]
    config = load_method("npo", overrides={"instead_weight": 0.5, "forget_weight": 2.0})
    examples = encode_set(records, words, "forget", config)
    (tmp_path / "instead").mkdir()
    fixed = record_logits(examples, run.lanes[0], run.lanes[2], tmp_path / "instead", torch.float32)
    ensemble = Ensemble(examples, fixed, run.lanes[1], Rule(), NONE, torch.device("cpu"))
    both = Run(config, ensemble, groups(examples, config), run.lanes)
    terms = both.terms([0, 1])
    assert list(terms) == ["npo", "instead"]
    own, instead = both.log_prob(0, "ensemble") - both.log_prob(0, "large"), both.log_prob(1, "ensemble")
    assert terms["npo"] == pytest.approx(2.0 * 20 * math.log(1 + math.exp(0.1 * own)), rel=1e-4)
    assert terms["instead"] == pytest.approx(-0.5 * instead / sum(examples[1].answer), rel=1e-4)
    assert list(both.terms([1])) == ["instead"]


@pytest.mark.parametrize("run", ["kl_min"], indirect=True)
def test_the_retain_term_may_leave_out_what_begins_something_forgotten(run: Run) -> None:
    around = run.config.model_copy(update={"retain_around": True})
    begins = torch.tensor(sorted(run.ensemble.unit_starts()))
    left = step_loss(around, run.ensemble, [3, 4], begins)["kl"].value.item()
    rows = run.ensemble.batch([3, 4]).retain
    kept = [token for token in range(rows.large.shape[1]) if token not in begins.tolist()]
    total, count = 0.0, 0
    for large, ensemble, token in zip(rows.large.tolist(), rows.ensemble.tolist(), rows.tokens.tolist(), strict=True):
        if token in kept:
            sums = [math.log(sum(math.exp(row[key]) for key in kept)) for row in (large, ensemble)]
            logs = [(large[key] - sums[0], ensemble[key] - sums[1]) for key in kept]
            total += sum(math.exp(p) * (p - q) for p, q in logs)
            count += 1
    assert left == pytest.approx(total / count, rel=1e-4)
