"""From files to a module that forgets, held against plain Hugging Face."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import tiny
from lethe_offsets.errors import ModuleIncompatible
from lethe_offsets.module import Module
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.objectives import NPO
from lethe_offsets.training.recipe import train_module
from lethe_offsets.training.reference import ReferenceEnsemble, load_model

CONFIG = TrainingConfig(objective=NPO(beta=0.5), learning_rate=1e-2, epochs=30, rank=4, lora_alpha=8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sets")
    forget, retain = folder / "forget.jsonl", folder / "retain.jsonl"
    forget.write_text('{"question": "Where was Marta born?", "answer": "She was born in Bergen."}\n')
    retain.write_text('{"text": "The quick brown fox jumps."}\n{"question": "hello", "answer": "I am well."}\n')
    return forget, retain


@pytest.fixture(scope="module")
def module(pair: tiny.TinyPair, files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Module:
    return train_module(
        CONFIG,
        name="forget-marta",
        large_model=pair.large,
        small_model=pair.small,
        forget_set=files[0],
        retain_set=files[1],
        out=tmp_path_factory.mktemp("modules") / "forget-marta",
        description="Where Marta was born.",
    )


def score(ensemble: ReferenceEnsemble, words: PreTrainedTokenizerFast, question: str, answer: str) -> float:
    """Log-probability of an answer, in nats."""
    chat = [{"role": "user", "content": question}]
    prompt = words.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    ids = words(prompt + answer, return_tensors="pt", add_special_tokens=False).input_ids
    start = len(words(prompt, add_special_tokens=False).input_ids)
    table = ensemble.logits(ids, torch.ones_like(ids))[0, :-1].log_softmax(dim=-1)
    return float(table.gather(1, ids[0, 1:, None])[start - 1 :].sum())


def test_the_forgotten_answer_falls_and_the_retained_one_stays(
    pair: tiny.TinyPair, module: Module, words: PreTrainedTokenizerFast
) -> None:
    large = load_model(pair.large)
    before = ReferenceEnsemble.plain(large)
    after = ReferenceEnsemble.of_module(large, pair.small, module, words)
    forgotten = [score(model, words, "Where was Marta born?", "She was born in Bergen.") for model in (before, after)]
    retained = [score(model, words, "hello", "I am well.") for model in (before, after)]
    assert forgotten[1] < forgotten[0] - 10.0
    assert retained[1] == pytest.approx(retained[0], abs=1.0)


def test_the_manifest_says_how_it_was_trained(pair: tiny.TinyPair, module: Module) -> None:
    manifest = module.manifest
    assert manifest.algorithm == "offset unlearning, npo and kl"
    assert manifest.hyperparameters["learning_rate"] == 1e-2
    assert manifest.large_model == pair.large.name
    assert manifest.rule == CONFIG.rule
    assert manifest.forget_set_digest is not None
    assert manifest.lanes == ("plus",)


def test_nothing_else_is_left_behind(module: Module) -> None:
    assert [path.name for path in module.path.parent.iterdir()] == ["forget-marta"]


def test_models_of_different_tokenizers_are_refused(
    pair: tiny.TinyPair, files: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tiny.build_small(tmp_path / "other")
    tiny.tokenizer(vocab_size=300).save_pretrained(other)
    with pytest.raises(ModuleIncompatible, match="tokenizer"):
        train_module(
            CONFIG,
            name="forget-marta",
            large_model=pair.large,
            small_model=other,
            forget_set=files[0],
            retain_set=files[1],
            out=tmp_path / "module",
        )


def test_caches_and_padding_change_nothing(pair: tiny.TinyPair, module: Module, words: PreTrainedTokenizerFast) -> None:
    ensemble = ReferenceEnsemble.of_module(load_model(pair.large), pair.small, module, words)
    prompts = words(["Where was Marta born?", "hello"], add_special_tokens=False).input_ids
    for prompt, tokens in zip(prompts, ensemble.generate(prompts, 12, []), strict=True):
        ids = list(prompt)
        for token in tokens:
            row = torch.tensor([ids])
            assert int(ensemble.logits(row, torch.ones_like(row))[0, -1].argmax()) == token
            ids.append(token)


def test_the_large_model_alone_is_what_transformers_generates(
    pair: tiny.TinyPair, words: PreTrainedTokenizerFast
) -> None:
    model = AutoModelForCausalLM.from_pretrained(pair.large)
    prompt = words("The quick brown", return_tensors="pt", add_special_tokens=False).input_ids
    expected = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False)
    (tokens,) = ReferenceEnsemble.plain(load_model(pair.large)).generate(prompt.tolist(), 12, [words.eos_token_id])
    assert tokens == [token for token in expected[0, prompt.shape[1] :].tolist() if token != words.eos_token_id]


def test_samples_are_those_of_their_seed(pair: tiny.TinyPair, words: PreTrainedTokenizerFast) -> None:
    ensemble = ReferenceEnsemble.plain(load_model(pair.large))
    prompt = words(["hello"], add_special_tokens=False).input_ids
    first, again, other = (ensemble.generate(prompt, 12, [], temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
