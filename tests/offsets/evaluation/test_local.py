"""A model in process, against the plain ensemble of three separate passes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from kit import Kit
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.evaluation import generation, scoring
from lethe_offsets.evaluation.local import Local
from lethe_offsets.evaluation.models import Pair

DRAW = random.Random(0)


def ids(length: int) -> list[int]:
    return [DRAW.randrange(3, 380) for _ in range(length)]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """Prompts with several continuations and with one, of many lengths, out of order."""
    prompts = [ids(length) for length in (9, 1, 4, 4, 17)]
    found = [(prompt, ids(length)) for prompt in prompts for length in (6, 1, 11)]
    DRAW.shuffle(found)
    return found


@pytest.mark.parametrize("name", ["judged", "target"])
@pytest.mark.parametrize("budget", [8192, 16])
def test_scores_are_those_of_whole_passes(
    name: str, budget: int, pairs: list[Pair], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "PASS_TOKENS", budget)
    model: Local = request.getfixturevalue(name)
    for (prompt, rest), scored in zip(pairs, model.score(pairs, whole=True), strict=True):
        whole = torch.tensor([prompt + rest])
        logits = model.ensemble.logits(whole, torch.ones_like(whole))[0, len(prompt) - 1 : -1]
        logprobs = logits.log_softmax(-1)
        assert_close(scored.logprobs, logprobs.gather(1, torch.tensor(rest)[:, None])[:, 0], atol=1e-4, rtol=0)
        assert scored.greedy.tolist() == [int(row.argmax()) == token for row, token in zip(logits, rest, strict=True)]
        p = logprobs.exp()
        assert_close(scored.entropy, -(p * logprobs).sum(-1), atol=1e-3, rtol=0)
        assert_close(scored.mean, (p * logprobs).sum(-1), atol=1e-3, rtol=0)
        spread = (p * logprobs.square()).sum(-1) - (p * logprobs).sum(-1).square()
        assert_close(scored.std, spread.sqrt(), atol=1e-3, rtol=0)


def test_the_module_changes_the_scores(judged: Local, target: Local, pairs: list[Pair]) -> None:
    ours, theirs = judged.score(pairs), target.score(pairs)
    assert all((a.logprobs - b.logprobs).abs().max() > 0.01 for a, b in zip(ours, theirs, strict=True))
    assert ours[0].entropy is None
    assert ours[0].std is None


@pytest.mark.parametrize("rows", [128, 2])
def test_answers_are_those_of_the_plain_ensemble(
    judged: Local, rows: int, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "ROWS", rows)
    prompts = [prompt for prompt, _ in pairs]
    stops = [judged.tokenizer.eos_token_id, *range(100, 140)]  # some end early
    found = generation.generate(judged.ensemble, prompts, stops, 12, 1, 0.0, 0, lambda *_: None)
    expected = judged.ensemble.generate(prompts, 12, stops)
    assert [answers[0] for answers in found] == expected
    assert len({len(answer) for answer in expected}) > 2


def test_drawn_answers_are_as_many_as_asked_for_and_the_same_for_a_seed(judged: Local, pairs: list[Pair]) -> None:
    prompts = [pairs[0][0], pairs[1][0]]
    found = judged.generate(prompts, 5, num_samples=70, temperature=1.0, seed=3)
    assert [len(answers) for answers in found] == [70, 70]
    assert len(set(found[0])) > 20
    assert found == judged.generate(prompts, 5, num_samples=70, temperature=1.0, seed=3)
    assert found != judged.generate(prompts, 5, num_samples=70, temperature=1.0, seed=4)


def test_drawn_tokens_follow_the_distribution(judged: Local) -> None:
    prompt, count = [5, 6, 7], 4000
    whole = torch.tensor([prompt])
    p = judged.ensemble.logits(whole, torch.ones_like(whole))[0, -1].softmax(-1)
    found = generation.generate(judged.ensemble, [prompt], [], 1, count, 1.0, 0, lambda *_: None)
    drawn = torch.bincount(torch.tensor([answer[0] for answer in found[0]]), minlength=len(p)) / count
    assert float((drawn - p).abs().max()) < 0.03


def test_another_strength_is_the_rules(kit: Kit, target: Local, pairs: list[Pair]) -> None:
    module = kit.modules["plain"]
    off = Local.of_module("module", target, kit.small, module, strength=0.0)
    for ours, theirs in zip(off.score(pairs), target.score(pairs), strict=True):
        assert_close(ours.logprobs, theirs.logprobs, atol=1e-5, rtol=0)
    assert off.identity != Local.of_module("module", target, kit.small, module).identity
    with pytest.raises(InvalidInput, match=r"strength: got 99.0"):
        Local.of_module("module", target, kit.small, module, strength=99.0)


def test_a_module_of_another_small_model_is_refused(kit: Kit, target: Local) -> None:
    with pytest.raises(ModuleIncompatible, match="small: got"):
        Local.of_module("module", target, kit.large, kit.modules["plain"])


def test_no_model_is_an_error_that_names_it() -> None:
    with pytest.raises(InvalidInput, match="target: got '/nowhere'"):
        Local.of_model("target", "/nowhere")


def test_the_rule_counts(judged: Local, pairs: list[Pair]) -> None:
    other = replace(judged.ensemble, rule=replace(judged.ensemble.rule, clip=None))
    ours, theirs = judged.score(pairs), replace(judged, ensemble=other).score(pairs)
    assert any((a.logprobs - b.logprobs).abs().max() > 0.01 for a, b in zip(ours, theirs, strict=True))
