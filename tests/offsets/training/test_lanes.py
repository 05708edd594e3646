"""The fine-tuned forms: what each lane learns, by the gradients and losses of ordinary fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import tiny
from lethe_offsets.errors import InvalidInput
from lethe_offsets.pair import Rule
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, read_examples
from lethe_offsets.training.lanes import assistant_trainee, pair_trainee
from lethe_offsets.training.objectives import ULD, CrossEntropy, RetainForgetPair, Uniform
from trainees import CONFIG, material, sweep, weights

PAIR = TrainingConfig.model_validate(
    CONFIG.model_dump() | {"objective": RetainForgetPair(), "retain": CrossEntropy(), "rule": Rule(strength=1.2)}
)
ASSISTANT = TrainingConfig.model_validate(CONFIG.model_dump() | {"objective": ULD(), "retain": Uniform(weight=1.0)})


def own_logits(model: torch.nn.Module, example: Example) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, tokens and units of what is predicted."""
    chosen = [at for at, predicted in enumerate(example.answer) if predicted]
    logits = model(torch.tensor([example.ids])).logits[0, [at - 1 for at in chosen]]
    return logits, torch.tensor([example.ids[at] for at in chosen]), torch.tensor([example.unit[at] for at in chosen])


def shake(model: torch.nn.Module) -> None:
    """Give a new adapter an effect."""
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)


def test_the_pair_learns_by_cross_entropy_with_and_without_the_forget_set(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    trainee = pair_trainee(PAIR, material(pair, forget, retain, tmp_path / "fixed"))
    shake(trainee.lanes["minus"])
    terms = trainee.terms([0, 2])
    assert set(terms) == {"plus cross_entropy", "minus retain_forget_pair", "minus cross_entropy"}
    for lane, model in trainee.lanes.items():
        parts = [own_logits(model, example) for example in (forget[0], retain[0])]
        logits, tokens, units = (torch.cat(part) for part in zip(*parts, strict=True))
        kept = F.cross_entropy(logits[units < 0], tokens[units < 0])
        torch.testing.assert_close(terms[f"{lane} cross_entropy"].value, kept, rtol=1e-5, atol=1e-6)
        if lane == "minus":
            gone = F.cross_entropy(logits[units >= 0], tokens[units >= 0])
            torch.testing.assert_close(terms["minus retain_forget_pair"].value, gone, rtol=1e-5, atol=1e-6)


def test_the_pairs_ensemble_takes_plus_less_minus(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    given = material(pair, forget, retain, tmp_path / "fixed")
    trainee = pair_trainee(PAIR, given)
    shake(trainee.lanes["minus"])
    rows = trainee.ensemble.batch([2]).retain
    plus, minus = (own_logits(trainee.lanes[lane], retain[0])[0] for lane in ("plus", "minus"))
    torch.testing.assert_close(rows.ensemble, rows.large + 1.2 * (plus - minus), rtol=1e-4, atol=1e-4)


def test_the_pair_shares_one_start_and_the_retain_set_moves_both_lanes_alike(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    trainee = pair_trainee(PAIR, material(pair, forget, retain, tmp_path / "fixed"))
    terms = trainee.terms([2, 3])  # nothing to forget among them
    torch.stack([term.value for term in terms.values()]).sum().backward()
    plus, minus = (list(model.parameters()) for model in trainee.lanes.values())
    assert all(torch.equal(one, other) for one, other in zip(plus, minus, strict=True))
    pushed = [(one.grad, other.grad) for one, other in zip(plus, minus, strict=True) if one.requires_grad]
    assert any(one.abs().sum() > 0 for one, _ in pushed)
    assert all(torch.equal(one, other) for one, other in pushed)


def test_the_assistant_is_what_the_minus_lane_adds(
    pair: tiny.TinyPair, forget: list[Example], retain: list[Example], tmp_path: Path
) -> None:
    given = material(pair, forget, retain, tmp_path / "fixed")
    trainee = assistant_trainee(ASSISTANT, given)
    assert list(trainee.lanes) == ["minus"]
    start = trainee.terms([0, 2])
    assert start["uniform"].value.item() == pytest.approx(torch.tensor(384.0).log().item(), rel=1e-5), (
        "uniform at the start"
    )
    shake(trainee.lanes["minus"])
    terms = trainee.terms([0, 2])
    parts = [
        (
            own_logits(trainee.lanes["minus"], example)[0] - own_logits(given.small, example)[0],
            *own_logits(given.small, example)[1:],
        )
        for example in (forget[0], retain[0])
    ]
    assistant, tokens, units = (torch.cat(part) for part in zip(*parts, strict=True))
    gone = F.cross_entropy(assistant[units >= 0], tokens[units >= 0])
    torch.testing.assert_close(terms["uld"].value, gone, rtol=1e-4, atol=1e-4)
    flat = -assistant[units < 0].log_softmax(dim=-1).mean()
    torch.testing.assert_close(terms["uniform"].value, flat, rtol=1e-4, atol=1e-4)
    rows = trainee.ensemble.batch([0]).forget
    own = assistant[: sum(forget[0].answer)][units[: sum(forget[0].answer)] >= 0]
    torch.testing.assert_close(rows.ensemble, rows.large - own, rtol=1e-4, atol=1e-4)


def test_an_assistant_can_not_teach(
    pair: tiny.TinyPair, words: PreTrainedTokenizerFast, retain: list[Example], tmp_path: Path
) -> None:
    path = tmp_path / "instead.jsonl"
    path.write_text('{"question": "Who?", "answer": "Marta.", "instead": "Nobody."}\n', encoding="utf-8")
    forget = read_examples(path, words, "forget", 512)
    with pytest.raises(InvalidInput, match="instead"):
        assistant_trainee(ASSISTANT, material(pair, forget, retain, tmp_path / "fixed"))


@pytest.mark.parametrize(("config", "lanes"), [(PAIR, ("plus", "minus")), (ASSISTANT, ("minus",))])
def test_both_forms_forget(
    pair: tiny.TinyPair,
    forget: list[Example],
    retain: list[Example],
    tmp_path: Path,
    config: TrainingConfig,
    lanes: tuple[str, ...],
) -> None:
    (result,) = sweep(pair, forget, retain, tmp_path, config.model_copy(update={"epochs": 10}))
    assert result.scores[-1].forget < 0.2 * result.scores[0].forget
    for lane in lanes:
        assert any(weight.abs().sum() > 0 for name, weight in weights(tmp_path, lane=lane).items() if "lora_B" in name)
