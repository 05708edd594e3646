"""The peers compute the offset distribution too: their greedy tokens are the reference's."""

from __future__ import annotations

import random

import pytest
import torch

from kit import Kit
from lethe_server.bench.hf_loop import ThreeModels
from reference import Lanes

TOKENS = 6


def prompts(count: int, lengths: tuple[int, ...]) -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(3, 300) for _ in range(lengths[i % len(lengths)])] for i in range(count)]


def expected(kit: Kit, sent: list[list[int]]) -> list[list[int]]:
    lanes = kit.lanes("plain")
    assert isinstance(lanes, Lanes)
    reference = kit.reference()
    return [reference.greedy(prompt, lanes, TOKENS) for prompt in sent]


def test_the_loop_is_the_reference(bench_kit: Kit) -> None:
    sent = prompts(3, (9,))
    models = ThreeModels(bench_kit.large, bench_kit.small, bench_kit.modules["plain"].lanes["plus"], torch.float32)
    tokens, times = models.generate(sent, TOKENS)
    assert tokens == expected(bench_kit, sent)
    assert len(times.arrived) == TOKENS


@pytest.mark.engine
def test_the_processor_is_the_reference(bench_kit: Kit) -> None:
    """More requests than slots, prompts of several lengths, some of them read in chunks."""
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    sent = prompts(7, (5, 40, 11))
    plus = str(bench_kit.modules["plain"].lanes["plus"])
    engine = LLM(
        model=str(bench_kit.large),
        logits_processors=["lethe_server.bench.processor:PairProcessor"],
        additional_config={"bench_pair": {"small": str(bench_kit.small), "plus": plus, "minus": None, "strength": 1.0}},
        dtype="float32",
        max_model_len=128,
        max_num_seqs=4,
        max_num_batched_tokens=16,
        enforce_eager=True,
        enable_prefix_caching=False,
        kv_cache_memory_bytes=2**26,
    )
    try:
        params = SamplingParams(temperature=0.0, max_tokens=TOKENS, ignore_eos=True)
        answers = engine.generate([TokensPrompt(prompt_token_ids=p) for p in sent], params, use_tqdm=False)
        assert [list(answer.outputs[0].token_ids) for answer in answers] == expected(bench_kit, sent)
    finally:
        engine.llm_engine.engine_core.shutdown()
