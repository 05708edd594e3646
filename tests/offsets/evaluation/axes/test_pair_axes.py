"""Axes that change a pair in process: on tiny models, without touching what is judged."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kit import Kit
from lethe_offsets.evaluation.axes import relearning
from lethe_offsets.evaluation.axes.guidance import Guidance, extract
from lethe_offsets.evaluation.axes.guided import guided_logits
from lethe_offsets.evaluation.axes.pair import adapter_weights, fresh_pair, own_pair
from lethe_offsets.evaluation.axes.quantised import Quantised
from lethe_offsets.evaluation.axes.relearning import Relearning
from lethe_offsets.evaluation.local import Local
from lethe_offsets.evaluation.metrics import NotApplicable, Settings, World
from lethe_offsets.evaluation.sets import Item, Sets
from lethe_offsets.pair import divergence

BORN = Item("Where was Marta Lindqvist born?", "She was born in Bergen.")
WORK = Item("Where does Marta Lindqvist work?", "She works in Oslo.")
KEPT = Item("What is the capital of France?", "Paris.")
SETS = Sets((BORN, WORK), retain=(KEPT,))


def world_of(judged: Local, *others: Local) -> World:
    models = {one.name: one for one in (judged, *others)}
    return World(judged, models, SETS, Settings(max_tokens=8))


def test_bits_change_a_copy_and_eight_change_less_than_four(target: Local, judged: Local) -> None:
    before = judged.score(world_of(judged).pairs(SETS.forget))
    summary = Quantised().run(world_of(judged, target)).summary
    assert set(summary) == {f"{name}{bits}" for name in ("forget", "retain") for bits in ("", "_8", "_4")}
    moved = [abs(summary[f"retain_{bits}"] / summary["retain"] - 1) for bits in (8, 4)]
    assert 0.0 < moved[0] < moved[1]
    after = judged.score(world_of(judged).pairs(SETS.forget))
    assert all(torch.equal(one.logprobs, two.logprobs) for one, two in zip(before, after, strict=True))


def test_a_model_without_a_pair_is_told_so(target: Local) -> None:
    with pytest.raises(NotApplicable, match="no pair"):
        Quantised().run(world_of(target))


def test_a_fresh_pair_changes_nothing_until_it_learns(target: Local, judged: Local) -> None:
    world = world_of(target, judged)
    pairs = world.pairs(SETS.forget)
    fresh = fresh_pair(world).score(pairs)
    for one, two in zip(fresh, target.score(pairs), strict=True):
        assert one.logprobs.tolist() == pytest.approx(two.logprobs.tolist(), abs=1e-5)


@pytest.mark.parametrize("name", ["target", "module"])
def test_relearning_brings_the_shown_answers_back(target: Local, judged: Local, name: str) -> None:
    model, other = (judged, target) if name == "module" else (target, judged)
    before = [weight.clone() for weight in adapter_weights(judged.ensemble.plus)]
    result = Relearning().run(world_of(model, other))
    assert [item["step"] for item in result.items] == list(relearning.STEPS)
    shown = [result.summary[f"shown_{step}"] for step in relearning.STEPS]
    assert shown == sorted(shown)
    assert shown[-1] > 1.5 * shown[0]
    assert shown[0] == pytest.approx(relearning.probability(model, own_shown(model)), rel=1e-4)
    after = adapter_weights(judged.ensemble.plus)
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True)), "the judged module was changed"


def own_shown(model: Local) -> list[tuple[list[int], list[int]]]:
    """The one example of two that the seed picks."""
    import random

    (first, _) = random.Random("0 relearning").sample(SETS.forget, 2)
    return World(model, {}, SETS).pairs([first])


def test_a_step_follows_the_gradient_of_the_ensemble(target: Local, judged: Local) -> None:
    world = world_of(judged, target)
    pair, pairs = own_pair(world), world.pairs(SETS.forget)
    before = relearning.probability(pair, pairs)
    step = relearning.trainer(pair, pairs)
    step()
    assert relearning.probability(pair, pairs) > before
    assert len(adapter_weights(pair.ensemble.plus)) == len(adapter_weights(pair.ensemble.minus)) > 0


def test_a_rank_rule_can_not_be_relearned_by_gradients(kit: Kit, target: Local) -> None:
    ranked = Local.of_module("module", target, kit.small, kit.modules["ranked"])
    with pytest.raises(NotApplicable, match="rank rule"):
        Relearning().run(world_of(ranked, target))


@pytest.mark.parametrize("w", [0.0, 2.0])
def test_guided_replies_are_those_of_whole_forward_passes(target: Local, judged: Local, w: float) -> None:
    world = world_of(judged, target)
    ((reply, most),) = extract(world, target, judged, [BORN], w)
    (ids,) = world.prompts([BORN])
    stops, out, largest = set(judged.ensemble.special_ids.tolist()), list[int](), 0.0
    for _ in range(world.settings.max_tokens):
        both = [model.ensemble.logits(*inputs([*ids, *out]))[0, -1] for model in (target, judged)]
        largest = max(largest, float(divergence(*both)))
        token = int(guided_logits(both[0], both[1], w).argmax())
        if token in stops:
            break
        out.append(token)
    assert reply == judged.tokenizer.decode(out, skip_special_tokens=True).strip()
    assert most == pytest.approx(largest, abs=1e-4)


def inputs(ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long)


def test_without_guidance_the_attack_is_the_model_before(target: Local, judged: Local) -> None:
    summary = Guidance().run(world_of(judged, target)).summary
    assert {"rouge", "rouge_w0", "rouge_w2", "found"} <= set(summary)
    with pytest.raises(NotApplicable, match="not the target with a module"):
        Guidance().run(world_of(target, judged))


def test_a_module_that_does_nothing_leaves_nothing_to_find(target: Local, judged: Local) -> None:
    nothing = replace(fresh_pair(world_of(target, judged)), name="module")
    summary = Guidance().run(world_of(nothing, target)).summary
    assert summary["divergence"] == pytest.approx(0.0, abs=1e-5)
    assert summary["rouge_w2"] == summary["rouge_w0"] == summary["rouge"]
