"""From files to a module that forgets, held against plain Hugging Face."""

from __future__ import annotations

import gc
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

import tiny
from full_disk import full_disk
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.module import Module
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.objectives import NPO, CrossEntropy, RetainForgetPair
from lethe_offsets.training.recipe import train_module
from lethe_offsets.training.reference import ReferenceEnsemble, load_model

CONFIG = TrainingConfig(objective=NPO(beta=0.5), learning_rate=1e-2, epochs=30, rank=4, lora_alpha=8, score_every=10)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sets")
    forget, retain = folder / "forget.jsonl", folder / "retain.jsonl"
    forget.write_text('{"question": "Where was Marta born?", "answer": "She was born in Bergen."}\n')
    retain.write_text('{"text": "The quick brown fox jumps."}\n{"question": "hello", "answer": "I am well."}\n')
    return forget, retain


@pytest.fixture(scope="module")
def module(pair: tiny.TinyPair, files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Module:
    out = tmp_path_factory.mktemp("modules") / "forget-marta"
    return make(CONFIG, pair, files, out, description="Where a woman comes from.")


def make(config: TrainingConfig, pair: tiny.TinyPair, files: tuple[Path, Path], out: Path, **options: Any) -> Module:
    arguments = {"name": "forget-marta", "large_model": pair.large, "small_model": pair.small}
    sets = {"forget_set": files[0], "retain_set": files[1]}
    return train_module(config, out=out, **{**arguments, **sets, **options})


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


def test_the_large_model_is_gone_while_the_adapter_is_trained(
    pair: tiny.TinyPair, files: tuple[Path, Path], tmp_path: Path
) -> None:
    def count() -> int:
        gc.collect()
        models = [thing for thing in gc.get_objects() if type(thing) is LlamaForCausalLM]
        return sum(model.config.name_or_path == str(pair.large) for model in models)

    before, alive = count(), {}

    def look(label: str, done: int, total: int, note: str = "") -> None:
        alive[label] = count() - before

    make(CONFIG.model_copy(update={"epochs": 1}), pair, files, tmp_path / "m", report=look)
    assert alive == {"logits of the data": 1, "forget module": 0}


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


def test_the_scores_over_the_steps_are_in_the_module(module: Module) -> None:
    training = json.loads((module.path / "training.json").read_text())
    (run,) = training["runs"]
    assert training["learning_rate"] == run["learning_rate"] == 1e-2
    assert [score["step"] for score in run["scores"]] == [0, 10, 20, 30]
    assert run["kept_step"] == 30
    first, last = run["scores"][0], run["scores"][-1]
    assert run["score"] == min(1, last["retain"] / first["retain"]) - last["forget"] / first["forget"]
    assert (module.path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_the_forget_text_is_nowhere_in_the_module(module: Module) -> None:
    files = [path for path in module.path.rglob("*") if path.is_file()]
    assert {"offset.json", "training.json", "training.png", "README.md"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes().lower()
        for said in (b"where was marta", b"she was born", b"bergen", b"quick brown"):
            assert said not in content, path


def test_the_same_call_gives_the_same_bytes(
    pair: tiny.TinyPair, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    config = CONFIG.model_copy(update={"epochs": 3})
    first, again, other = (
        make(config.model_copy(update={"seed": seed}), pair, files, tmp_path / name / "m")
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first.digest == again.digest != other.digest
    assert first.manifest.created.isoformat() == "2023-11-14T22:13:20+00:00"
    assert first.manifest.forget_set_digest != other.manifest.forget_set_digest


def test_bfloat16_trains_a_float32_adapter(pair: tiny.TinyPair, files: tuple[Path, Path], tmp_path: Path) -> None:
    module = make(CONFIG.model_copy(update={"dtype": "bfloat16", "epochs": 10}), pair, files, tmp_path / "m")
    assert {pair.b.dtype for pair in module.adapters()["plus"].pairs.values()} == {torch.float32}
    (run,) = json.loads((module.path / "training.json").read_text())["runs"]
    assert run["scores"][-1]["forget"] < 0.1 * run["scores"][0]["forget"]


def test_a_module_of_both_lanes_is_made_and_applied(
    pair: tiny.TinyPair, files: tuple[Path, Path], tmp_path: Path, words: PreTrainedTokenizerFast
) -> None:
    config = TrainingConfig(
        objective=RetainForgetPair(), retain=CrossEntropy(), learning_rate=1e-2, epochs=10, rank=4, lora_alpha=8
    )
    module = make(config, pair, files, tmp_path / "m")
    assert module.manifest.lanes == ("plus", "minus")
    assert module.manifest.algorithm == "retain_forget_pair"
    large = load_model(pair.large)
    asked = words, "Where was Marta born?", "She was born in Bergen."
    after = ReferenceEnsemble.of_module(large, pair.small, module, words)
    assert score(after, *asked) < score(ReferenceEnsemble.plain(large), *asked) - 10.0
    tokens = len(words(asked[2], add_special_tokens=False).input_ids)
    (run,) = json.loads((module.path / "training.json").read_text())["runs"]
    assert math.exp(score(after, *asked) / tokens) == pytest.approx(run["scores"][-1]["forget"], rel=1e-3)


@pytest.mark.parametrize(("room", "missing"), [(4096, "m.training'"), (65536, "kept.safetensors")])
def test_a_full_disk_leaves_no_half_module_and_loses_nothing(
    pair: tiny.TinyPair, files: tuple[Path, Path], tmp_path: Path, room: int, missing: str
) -> None:
    config, out = CONFIG.model_copy(update={"epochs": 2, "rank": 16}), tmp_path / "m"
    with pytest.raises(InvalidInput, match=f"{missing}.* a place with room") as refused, full_disk(room):
        make(config, pair, files, out)
    assert refused.value.field == "out"
    assert not out.exists()
    assert make(config, pair, files, out).path == out
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_disk_that_fills_up_with_the_module_loses_nothing(
    pair: tiny.TinyPair, files: tuple[Path, Path], tmp_path: Path
) -> None:
    """The run is finished, and of all files only the manifest, with a long description, doesn't fit."""
    config, out, said = CONFIG.model_copy(update={"epochs": 2}), tmp_path / "m", []
    options = {"description": "x" * 600_000, "report": lambda label, *_: said.append(label)}
    with pytest.raises(InvalidInput, match="a path that can be written"), full_disk(500_000):
        make(config, pair, files, out, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["m.training"]
    assert "forget module" in said
    said.clear()
    assert make(config, pair, files, out, **options).path == out
    assert "forget module" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"small_model": "/nowhere/at/all"}, "small_model: got '/nowhere/at/all'"),
        ({"large_model": "/nowhere/at/all"}, "model: got '/nowhere/at/all'"),
        ({"large_model": None}, "model, logits: got [None, None]; accepted: one of the two"),
        ({"name": "no spaces"}, "name: got 'no spaces'"),
        ({"version": ""}, "version: got ''"),
        ({"forget_set": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"logits": Path("nowhere.safetensors"), "large_model": None}, "recording: got 'nowhere.safetensors'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    pair: tiny.TinyPair,
    files: tuple[Path, Path],
    tmp_path: Path,
    change: dict[str, Any],
    said: str,
) -> None:
    with pytest.raises(InvalidInput) as refused:
        make(CONFIG, pair, files, tmp_path / "m", **change)
    assert said in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_is_both_forgotten_and_retained_is_refused(
    pair: tiny.TinyPair, files: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=r"retain set.*no record of the forget set"):
        make(CONFIG, pair, (files[0], files[0]), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_written_over(pair: tiny.TinyPair, files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="a path where nothing is yet"):
        make(CONFIG, pair, files, tmp_path)


def test_models_of_different_tokenizers_are_refused(
    pair: tiny.TinyPair, files: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tiny.build_small(tmp_path / "other")
    tiny.tokenizer(vocab_size=300).save_pretrained(other)
    with pytest.raises(ModuleIncompatible, match="tokenizer"):
        make(CONFIG, pair, files, tmp_path / "module", small_model=other)


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
