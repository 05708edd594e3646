"""Invariant 2: every number that leaves the engine equals three Hugging Face models with three separate caches."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import xgrammar

import tiny
from kit import Kit, Served, serve
from reference import Reference

KINDS = (None, "plain", "both", "ranked")
TOLERANCE = 1e-4  # nats
NUM_TOKENS = 16
SHARED_VOCAB = len(tiny.tokenizer())

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Engine:
    served: Served
    reference: Reference
    kit: Kit

    def request(self, kind: str | None) -> Any:
        return None if kind is None else self.served.register(self.kit.modules[kind])

    def generate(self, prompts: list[list[int]], kinds: list[str | None], **params: Any) -> list[Any]:
        from vllm import SamplingParams

        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        sampling = SamplingParams(**{"temperature": 0.0, "max_tokens": NUM_TOKENS, "ignore_eos": True, **params})
        outputs: list[Any] = self.served.llm.generate(
            inputs, sampling, lora_request=[self.request(kind) for kind in kinds], use_tqdm=False
        )
        return outputs

    def check_scores(self, prompt: list[int], completion: Any, kind: str | None) -> None:
        """Every sampled token's log-probability equals the reference's."""
        tokens = list(completion.token_ids)
        expected = self.reference.scores([*prompt, *tokens], self.kit.lanes(kind))[len(prompt) - 1 :]
        given = [entry[token].logprob for token, entry in zip(tokens, completion.logprobs, strict=True)]
        assert given == pytest.approx(expected, abs=TOLERANCE)


@pytest.fixture(scope="module", params=["eager", "compiled"])
def engine(request: pytest.FixtureRequest, kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Two slots for three modules, prompts in chunks of 64 tokens, and too few cache blocks for all requests."""
    with serve(
        kit,
        tmp_path_factory.mktemp("adapters"),
        enforce_eager=request.param == "eager",
        max_num_batched_tokens=64,
        num_gpu_blocks_override=16,
        enable_prefix_caching=True,
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        disable_log_stats=False,
    ) as served:
        yield Engine(served, kit.reference(), kit)


def prompts_of(count: int, seed: int = 0) -> list[list[int]]:
    """Prompts of 20 to 150 tokens; half of them share their first 70."""
    draw = random.Random(seed)
    shared = [draw.randrange(3, SHARED_VOCAB) for _ in range(70)]
    prompts = []
    for number in range(count):
        own = [draw.randrange(3, SHARED_VOCAB) for _ in range(draw.randrange(20, 80))]
        prompts.append([*shared, *own] if number % 2 else own)
    return prompts


def counter(served: Served, name: str) -> float:
    return sum(metric.value for metric in served.llm.get_metrics() if metric.name == name)


def test_concurrent_greedy_tokens_and_log_probabilities(engine: Engine) -> None:
    kinds = [kind for _ in range(8) for kind in KINDS]
    # The same prompts for every kind: what one module cached must not serve another.
    prompts = [prompt for prompt in prompts_of(8) for _ in KINDS]
    outputs = engine.generate(prompts, kinds, logprobs=0)
    for prompt, kind, output in zip(prompts, kinds, outputs, strict=True):
        completion = output.outputs[0]
        assert list(completion.token_ids) == engine.reference.greedy(prompt, engine.kit.lanes(kind), NUM_TOKENS), kind
        engine.check_scores(prompt, completion, kind)
    assert counter(engine.served, "vllm:num_preemptions") > 0, "the cache was meant to be too small"
    assert counter(engine.served, "vllm:prefix_cache_hits") > 0, "the prompts were meant to share prefixes"


def test_kinds_differ(engine: Engine) -> None:
    """The test above would prove little if the modules changed nothing."""
    prompt = prompts_of(1, seed=5)[0]
    answers = {tuple(output.outputs[0].token_ids) for output in engine.generate([prompt] * 4, list(KINDS))}
    assert len(answers) == len(KINDS)


def test_prompt_log_probabilities(engine: Engine) -> None:
    prompts = prompts_of(8, seed=1)
    kinds = [KINDS[number % 4] for number in range(8)]
    for prompt, kind, output in zip(prompts, kinds, engine.generate(prompts, kinds, prompt_logprobs=2), strict=True):
        table = engine.reference.log_probs(prompt, engine.kit.lanes(kind))
        for position, entries in enumerate(output.prompt_logprobs[1:]):
            for token, entry in entries.items():
                expected = pytest.approx(table[position, token].item(), abs=TOLERANCE, rel=1e-6)
                assert entry.logprob == expected


def test_several_seeded_samples(engine: Engine) -> None:
    prompt = prompts_of(1, seed=2)[0]
    for kind in KINDS:
        (output,) = engine.generate([prompt], [kind], n=3, temperature=0.8, seed=11, logprobs=0)
        assert len({tuple(completion.token_ids) for completion in output.outputs}) == 3
        for completion in output.outputs:
            engine.check_scores(prompt, completion, kind)


def test_seeds_hold_however_the_prompt_is_cut(engine: Engine) -> None:
    """The first time the prompt comes in three chunks, the second time from the cache in one."""
    prompt = [(29 * number) % 380 + 3 for number in range(150)]
    for kind in KINDS:
        answers = [engine.generate([prompt], [kind], temperature=1.0, seed=7)[0].outputs[0] for _ in range(2)]
        assert list(answers[0].token_ids) == list(answers[1].token_ids)


def test_beam_search(engine: Engine) -> None:
    from vllm.sampling_params import BeamSearchParams

    prompt = prompts_of(1, seed=3)[0]
    for kind in KINDS:
        (output,) = engine.served.llm.beam_search(
            [{"prompt_token_ids": prompt}],
            BeamSearchParams(beam_width=3, max_tokens=5, ignore_eos=True),
            lora_request=engine.request(kind),
        )
        expected = engine.reference.beams(prompt, engine.kit.lanes(kind), width=3, num_tokens=5)
        assert [sequence.tokens[len(prompt) :] for sequence in output.sequences] == expected
        for sequence in output.sequences:
            scores = engine.reference.scores(sequence.tokens, engine.kit.lanes(kind))[len(prompt) - 1 :]
            assert sequence.cum_logprob == pytest.approx(sum(scores), abs=TOLERANCE)


def test_penalties_act_after_the_offset(engine: Engine) -> None:
    prompt = prompts_of(1, seed=4)[0]

    def penalised(logits: torch.Tensor, output: list[int]) -> torch.Tensor:
        counts = torch.bincount(torch.tensor(output, dtype=torch.long), minlength=logits.shape[-1])
        seen = counts + torch.bincount(torch.tensor(prompt), minlength=logits.shape[-1]) > 0
        repeated = torch.where(logits > 0, logits / 1.2, logits * 1.2)
        return torch.where(seen, repeated, logits) - 0.3 * counts - 0.4 * (counts > 0)

    for kind in KINDS:
        (output,) = engine.generate(
            [prompt], [kind], repetition_penalty=1.2, frequency_penalty=0.3, presence_penalty=0.4
        )
        expected = engine.reference.greedy(prompt, engine.kit.lanes(kind), NUM_TOKENS, penalised)
        assert list(output.outputs[0].token_ids) == expected


def test_json_schema(engine: Engine) -> None:
    """The grammar's mask lies on top of the offset: greedy tokens and log-probabilities of what it allows."""
    from vllm.sampling_params import StructuredOutputsParams

    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    prompt = prompts_of(1, seed=6)[0]
    width = engine.reference.large.config.vocab_size
    info = xgrammar.TokenizerInfo.from_huggingface(tiny.tokenizer(), vocab_size=width)
    compiler = xgrammar.GrammarCompiler(info)
    for kind in KINDS:
        (output,) = engine.generate(
            [prompt],
            [kind],
            structured_outputs=StructuredOutputsParams(json=schema),
            logprobs=0,
            max_tokens=40,
            ignore_eos=False,
        )
        completion = output.outputs[0]
        assert set(json.loads(completion.text)) == {"ok"}
        separators = (", ", ": ") if ": " in completion.text else (",", ":")  # which of them depends on vLLM's version
        grammar = compiler.compile_json_schema(json.dumps(schema), any_whitespace=False, separators=separators)
        matcher, scores = xgrammar.GrammarMatcher(grammar), []

        def allowed(logits: torch.Tensor, tokens: list[int], matcher: Any = matcher, scores: Any = scores) -> Any:
            if tokens:
                matcher.accept_token(tokens[-1])
            bitmask = xgrammar.allocate_token_bitmask(1, width)
            matcher.fill_next_token_bitmask(bitmask)
            xgrammar.apply_token_bitmask_inplace(logits[None], bitmask)
            scores.append(logits.log_softmax(dim=-1).max().item())
            return logits

        tokens = list(completion.token_ids)
        assert tokens == engine.reference.greedy(prompt, engine.kit.lanes(kind), len(tokens), allowed)
        given = [entry[token].logprob for token, entry in zip(tokens, completion.logprobs, strict=True)]
        assert given == pytest.approx(scores, abs=TOLERANCE)
