"""Drafts by the small model are verified against the offset distribution: tokens and samples are as without them.

The large model has the small one's weights, so that many drafts are right, and the modules make others wrong.
"""

from __future__ import annotations

import collections
import dataclasses
import random
from collections.abc import Iterator
from typing import Any

import pytest
from scipy.stats import chisquare

import tiny
from kit import Kit, Served, build_kit, serve
from reference import Reference

pytestmark = pytest.mark.engine
KINDS = (None, "plain", "both", "ranked")
TOP_K = 3
SAMPLES = 3000


@pytest.fixture(scope="module")
def drafted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kit, Served]]:
    folder = tmp_path_factory.mktemp("drafted")
    kit = build_kit(folder, vocab_padding=0)  # vLLM wants a draft model's head as wide as the large one's
    kit = dataclasses.replace(kit, large=kit.small)
    with serve(kit, folder / "adapters", enforce_eager=True, draft_tokens=3, disable_log_stats=False) as served:
        yield kit, served


def prompts_of(count: int, seed: int) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(3, len(tiny.tokenizer())) for _ in range(draw.randrange(20, 80))] for _ in range(count)]


def counter(served: Served, name: str) -> float:
    return sum(metric.value for metric in served.llm.get_metrics() if metric.name == name)


def generate(kit: Kit, served: Served, prompts: list[list[int]], kinds: list[str | None], **params: Any) -> list[Any]:
    from vllm import SamplingParams

    outputs: list[Any] = served.llm.generate(
        [{"prompt_token_ids": prompt} for prompt in prompts],
        SamplingParams(**params, ignore_eos=True),
        lora_request=[None if kind is None else served.register(kit.modules[kind]) for kind in kinds],
        use_tqdm=False,
    )
    return outputs


def test_greedy_tokens_and_log_probabilities(drafted: tuple[Kit, Served]) -> None:
    kit, served = drafted
    reference = kit.reference()
    prompts, kinds = prompts_of(8, seed=7), [KINDS[number % 4] for number in range(8)]
    outputs = generate(kit, served, prompts, kinds, temperature=0.0, max_tokens=16, logprobs=0)
    for prompt, kind, output in zip(prompts, kinds, outputs, strict=True):
        completion = output.outputs[0]
        tokens = list(completion.token_ids)
        assert tokens == reference.greedy(prompt, kit.lanes(kind), 16), kind
        given = [entry[token].logprob for token, entry in zip(tokens, completion.logprobs, strict=True)]
        expected = reference.scores([*prompt, *tokens], kit.lanes(kind))[len(prompt) - 1 :]
        assert given == pytest.approx(expected, abs=1e-4)
    accepted = counter(served, "vllm:spec_decode_num_accepted_tokens")
    assert 0 < accepted < counter(served, "vllm:spec_decode_num_draft_tokens")


def answers(reference: Reference, kit: Kit, prompt: list[int], kind: str | None) -> dict[tuple[int, ...], float]:
    """The probability of each answer of three tokens, sampled from the ``TOP_K`` likeliest."""
    found = {(): 1.0}
    for _ in range(3):
        longer = {}
        for tokens, probability in found.items():
            scores = reference.caches(kit.lanes(kind)).feed([*prompt, *tokens])[-1]
            best = scores.topk(TOP_K)
            shares = best.values.softmax(dim=-1)
            for token, share in zip(best.indices.tolist(), shares.tolist(), strict=True):
                longer[*tokens, token] = probability * share
        found = longer
    return found


def p_value(counts: collections.Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> float:
    """Chi-square; answers expected fewer than five times count together."""
    rare = [answer for answer, probability in expected.items() if probability * SAMPLES < 5]
    groups = [*([answer] for answer in expected if answer not in rare), rare]
    observed = [sum(counts[answer] for answer in group) for group in groups if group]
    awaited = [sum(expected[answer] for answer in group) * SAMPLES for group in groups if group]
    if sum(observed) < SAMPLES:
        return 0.0  # an answer that can't be
    return float(chisquare(observed, [count * SAMPLES / sum(awaited) for count in awaited]).pvalue)


@pytest.mark.parametrize("kind", ["plain", "both"])
def test_samples_follow_the_offset_distribution(drafted: tuple[Kit, Served], kind: str) -> None:
    kit, served = drafted
    reference = kit.reference()
    prompt = prompts_of(1, seed=11)[0]
    before = counter(served, "vllm:spec_decode_num_accepted_tokens")
    (output,) = generate(kit, served, [prompt], [kind], temperature=1.0, top_k=TOP_K, max_tokens=3, n=SAMPLES, seed=0)
    counts = collections.Counter(tuple(completion.token_ids) for completion in output.outputs)

    assert counts.total() == SAMPLES
    assert counter(served, "vllm:spec_decode_num_accepted_tokens") > before, "no draft was accepted"
    assert p_value(counts, answers(reference, kit, prompt, kind)) > 1e-3
    assert p_value(counts, answers(reference, kit, prompt, None)) < 1e-6, "the test can't tell the module's answers"


def shared(worker: Any) -> dict[str, bool]:
    """Within the engine: for each weight of the draft model, whether it is the pair's own."""
    runner = worker.model_runner
    pair = {weight.data_ptr() for _, weight in runner.get_model().pair.named_parameters(remove_duplicate=False)}
    draft = runner.drafter.model.named_parameters(remove_duplicate=False)
    return {name: weight.data_ptr() in pair for name, weight in draft}


def test_the_draft_shares_every_weight_with_the_pair(drafted: tuple[Kit, Served]) -> None:
    weights = drafted[1].inside(shared)

    assert len(weights) > 10
    assert [name for name, same in weights.items() if not same] == []
