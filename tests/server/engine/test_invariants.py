"""Invariants 1, 3, 4 and 5 on a real engine; 2 is test_exactness, 6 and 7 are in test_service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import tiny
from kit import Kit, Served, serve
from lethe_offsets.create import create_module
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from reference import Answering, Reference

pytestmark = pytest.mark.engine

PROMPTS = [[(7 * i + 11 * j) % 380 + 3 for i in range(12 + 9 * j)] for j in range(6)]


@pytest.fixture(scope="module")
def served(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(kit, tmp_path_factory.mktemp("adapters"), enforce_eager=True, max_num_batched_tokens=64) as served:
        yield served


def generate(served: Any, prompts: list[list[int]], requests: Any, **params: Any) -> list[Any]:
    from vllm import SamplingParams

    sampling = SamplingParams(**{"temperature": 0.0, "max_tokens": 12, "ignore_eos": True, "logprobs": 0, **params})
    inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
    outputs: list[Any] = served.generate(inputs, sampling, lora_request=requests, use_tqdm=False)
    return outputs


def numbers(outputs: list[Any]) -> list[tuple[list[int], list[float]]]:
    """Tokens and their log-probabilities of each output."""
    answers = []
    for output in outputs:
        completion = output.outputs[0]
        tokens = list(completion.token_ids)
        answers.append((tokens, [entry[t].logprob for t, entry in zip(tokens, completion.logprobs, strict=True)]))
    return answers


@pytest.fixture(scope="module")
def plain_answers(kit: Kit) -> list[tuple[list[int], list[float]]]:
    """What vLLM itself answers with the large model alone."""
    from vllm import LLM

    llm = LLM(
        model=str(kit.large),
        dtype="float32",
        max_model_len=256,
        block_size=32,
        max_num_seqs=32,
        enforce_eager=True,
        max_num_batched_tokens=64,
    )
    try:
        return numbers(generate(llm, PROMPTS, None))
    finally:
        llm.llm_engine.engine_core.shutdown()


def twins(kit: Kit, root: Path) -> Module:
    """The same adapter on both lanes: plus equals minus."""
    adapter = tiny.random_adapter(kit.small, root / "twin", rank=8, seed=9)
    return create_module("twins", kit.small, plus=adapter, minus=adapter, out=root / "twins")


def count_calls(worker: Any) -> None:
    """Within the engine: from now on count how often the pair and its head run and the rules are rebuilt."""
    model = worker.model_runner.get_model()
    worker.counted = {"pair": 0, "pair head": 0, "rules": 0}

    def counting(owner: Any, name: str, key: str) -> None:
        plain = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            worker.counted[key] += 1
            return plain(*args, **kwargs)

        setattr(owner, name, called)

    counting(model.pair, "forward", "pair")
    counting(model.pair, "compute_logits", "pair head")
    counting(model._adapters, "_rebuild", "rules")


def calls(worker: Any) -> dict[str, int]:
    return dict(worker.counted)


class TestInvariant1:
    """No module, or plus = minus: the output equals plain vLLM's, token for token."""

    def test_no_module(self, served: Served, plain_answers: Any) -> None:
        assert numbers(generate(served.llm, PROMPTS, None)) == plain_answers

    def test_no_module_beside_rows_with_one(self, served: Served, kit: Kit, plain_answers: Any) -> None:
        module = served.register(kit.modules["plain"])
        outputs = generate(served.llm, [p for p in PROMPTS for _ in range(2)], [None, module] * len(PROMPTS))
        for (tokens, scores), (plain_tokens, plain_scores) in zip(numbers(outputs[::2]), plain_answers, strict=True):
            assert tokens == plain_tokens
            assert scores == pytest.approx(plain_scores, abs=1e-5)

    def test_without_a_module_the_pair_rests(self, served: Served, kit: Kit) -> None:
        """Neither its layers nor its heads run, and the rules are not rebuilt while the slots stay as they are."""
        request = served.register(kit.modules["plain"])
        generate(served.llm, PROMPTS, request)
        served.inside(count_calls)
        generate(served.llm, PROMPTS, None)
        alone = served.inside(calls)
        generate(served.llm, PROMPTS, [request, None, *[request] * 4])

        assert alone == {"pair": 0, "pair head": 0, "rules": 0}
        beside = served.inside(calls)
        assert beside["pair"] > 0
        assert beside["pair head"] > 0
        assert beside["rules"] == 0

    def test_plus_equals_minus(self, served: Served, kit: Kit, plain_answers: Any, tmp_path: Path) -> None:
        module = served.register(twins(kit, tmp_path))
        for (tokens, scores), (plain_tokens, plain_scores) in zip(
            numbers(generate(served.llm, PROMPTS, [module] * len(PROMPTS))), plain_answers, strict=True
        ):
            assert tokens == plain_tokens
            assert scores == pytest.approx(plain_scores, abs=1e-4)


def train_to_forget(kit: Kit, prompt: list[int], answer: list[int], out: Path) -> Path:
    """An adapter for the plus lane that makes ``answer`` less likely under the small model."""
    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(kit.small), LoraConfig(r=8, target_modules=list(tiny.ATTENTION))
    )
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    ids = torch.tensor([[*prompt, *answer]])
    for _ in range(20):
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        loss = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(out)
    return out


def test_invariant_3_positive_strength_lowers_the_forget_answer(served: Served, kit: Kit, tmp_path: Path) -> None:
    prompt = PROMPTS[1]
    answer = numbers(generate(served.llm, [prompt], None))[0][0][:6]
    adapter = train_to_forget(kit, prompt, answer, tmp_path / "adapter")
    totals = []
    for strength in (-1.0, 0.0, 0.5, 1.0):
        module = create_module(
            f"forget{strength}", kit.small, plus=adapter, rule=Rule(strength=strength), out=tmp_path / str(strength)
        )
        (output,) = generate(
            served.llm, [[*prompt, *answer]], [served.register(module)], prompt_logprobs=0, max_tokens=1
        )
        entries = output.prompt_logprobs[len(prompt) :]
        totals.append(sum(entry[token].logprob for token, entry in zip(answer, entries, strict=True)))
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > totals[1] > totals[3]


def test_invariant_4_the_pair_sees_the_whole_context(served: Served, kit: Kit) -> None:
    """A prompt of four chunks whose first token matters: a pair that saw a window would give another offset."""
    reference, lanes = kit.reference(), kit.lanes("plain")
    prompt = [(13 * i) % 380 + 3 for i in range(230)]
    ((tokens, scores),) = numbers(generate(served.llm, [prompt], [served.register(kit.modules["plain"])], max_tokens=1))
    assert scores == pytest.approx(reference.scores([*prompt, *tokens], lanes)[-1:], abs=1e-4)
    assert windowed_score(reference, lanes, prompt, tokens[0]) != pytest.approx(scores[0], abs=1e-2)


def windowed_score(reference: Reference, lanes: Answering, prompt: list[int], token: int) -> float:
    """The token's log-probability if the pair saw only the last 64 tokens."""
    from lethe_offsets.pair import RuleRows, apply_rules

    whole = reference.caches(lanes)
    rows = []
    with torch.inference_mode():
        for index, model in enumerate(whole.models):
            ids = prompt if index == 0 else prompt[-64:]
            rows.append(model(input_ids=torch.tensor([ids])).logits[0, -1:].float())
    logits = apply_rules(*rows, RuleRows.stack(whole.rules), whole.special_ids)
    return float(logits.log_softmax(-1)[0, token])


class TestInvariant5:
    """A row whose module or rule is unknown, or whose offset is not finite, fails its request and only that."""

    def test_unknown_rule(self, served: Served, kit: Kit, plain_answers: Any) -> None:
        unknown = served.register(kit.modules["plain"], with_rule=False)
        self.check_only_it_fails(served, unknown, plain_answers)

    def test_offset_not_finite(self, served: Served, kit: Kit, plain_answers: Any, tmp_path: Path) -> None:
        adapter = tiny.random_adapter(kit.small, tmp_path / "huge", rank=4, seed=3)
        weights = load_file(adapter / "adapter_model.safetensors")
        save_file(
            {n: w * (1e30 if "lora_B" in n else 1.0) for n, w in weights.items()}, adapter / "adapter_model.safetensors"
        )
        huge = create_module("huge", kit.small, plus=adapter, out=tmp_path / "module")
        self.check_only_it_fails(served, served.register(huge), plain_answers)

    @staticmethod
    def check_only_it_fails(served: Served, request: Any, plain_answers: Any) -> None:
        requests = [request if number % 2 else None for number in range(len(PROMPTS))]
        outputs = generate(served.llm, PROMPTS, requests)
        assert [output.outputs[0].finish_reason for output in outputs[1::2]] == ["error"] * 3
        assert [list(output.outputs[0].token_ids) for output in outputs[1::2]] == [[]] * 3
        assert [tokens for tokens, _ in numbers(outputs[::2])] == [tokens for tokens, _ in plain_answers[::2]]

    def test_prompt_log_probabilities(self, served: Served, kit: Kit) -> None:
        unknown = served.register(kit.modules["plain"], with_rule=False)
        (output,) = generate(served.llm, PROMPTS[5:], [unknown], prompt_logprobs=1)
        assert output.outputs[0].finish_reason == "error"
        assert not any(output.prompt_logprobs or [])
