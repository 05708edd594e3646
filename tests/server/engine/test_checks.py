"""What is refused before an engine starts, and that the message says what to do instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import families
import tiny
from kit import Kit
from lethe_offsets.errors import InvalidInput
from lethe_server.engine.service import prepare
from lethe_server.engine.spec import EngineSpec


def spec(kit: Kit, **changes: Any) -> EngineSpec:
    return EngineSpec(**{"model": str(kit.large), "small_model": str(kit.small), "served_model_name": "kit", **changes})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pipeline_parallel_size": 2}, "pipeline_parallel_size: got 2; accepted: 1; use --tensor-parallel-size"),
        (
            {"tensor_parallel_size": 3},
            "tensor_parallel_size: got 3; accepted: a divisor of the 2 attention heads",
        ),
        ({"enable_lora": True}, "enable_lora: got True; accepted: nothing: forget modules"),
        ({"lora_modules": ["a=b"]}, "lora_modules: .* merge them into the large model"),
        ({"max_model_len": 4096}, "max_model_len: got 4096; accepted: at most 512: the small model must see"),
        ({"hf_overrides": {"architectures": ["X"]}}, "hf_overrides.architectures"),
        ({"enable_prompt_embeds": True}, "enable_prompt_embeds: .* send token ids"),
        ({"worker_extension_cls": "x.Y"}, "worker_extension_cls"),
    ],
)
def test_options(kit: Kit, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        prepare(spec(kit, options=options))


@pytest.mark.parametrize("rank", [0, 4096])
def test_rank_beyond_what_the_engine_knows(kit: Kit, rank: int) -> None:
    with pytest.raises(InvalidInput, match=f"max_module_rank: got {rank}; accepted: 1 to 512"):
        prepare(spec(kit, max_module_rank=rank))


@pytest.mark.parametrize("number", [0, 9])
def test_offsets_of_a_request(kit: Kit, number: int) -> None:
    with pytest.raises(InvalidInput, match=f"max_offsets_per_request: got {number}; accepted: 1 to 8"):
        prepare(spec(kit, max_offsets_per_request=number))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pair_dtype": "int4"}, "pair_dtype: got 'int4'; accepted: auto, float32, bfloat16, float16"),
        (
            {"pair_dtype": "float32", "draft_tokens": 2},
            "pair_dtype: got 'float32'; accepted: auto beside --draft-tokens",
        ),
    ],
)
def test_pair_dtype(kit: Kit, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        prepare(spec(kit, **changes))


def test_missing_model(kit: Kit, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"model: got .*nowhere.*; accepted: a model directory or hub name"):
        prepare(spec(kit, model=str(tmp_path / "nowhere")))


def test_other_tokenizer(kit: Kit, tmp_path: Path) -> None:
    small = tiny.build_small(tmp_path / "small")
    tokens = json.loads((small / "tokenizer.json").read_text())
    vocab = tokens["model"]["vocab"]
    first, second = sorted(vocab, key=lambda token: int(vocab[token]))[40:42]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (small / "tokenizer.json").write_text(json.dumps(tokens))
    with pytest.raises(InvalidInput, match=r"small_model: .* with the large model's tokenizer; token .* has id 40"):
        prepare(spec(kit, small_model=str(small)))


def test_multimodal_large_model(kit: Kit, tmp_path: Path) -> None:
    from transformers import LlavaConfig

    LlavaConfig(architectures=["LlavaForConditionalGeneration"]).save_pretrained(tmp_path / "llava")
    with pytest.raises(InvalidInput, match="a text-only model; llava is multimodal"):
        prepare(spec(kit, model=str(tmp_path / "llava")))


def test_experts_shared_among_engines(kit: Kit, tmp_path: Path) -> None:
    large = str(families.build(tmp_path / "experts", "qwen3_moe", 1))
    with pytest.raises(InvalidInput, match="data_parallel_size: got 2; accepted: 1 for a mixture of experts"):
        prepare(spec(kit, model=large, options={"data_parallel_size": 2}))


def test_heads_of_the_small_model(kit: Kit, tmp_path: Path) -> None:
    small = str(tiny.build_small(tmp_path / "small", heads=1))
    with pytest.raises(InvalidInput, match=r"tensor_parallel_size: got 2; accepted: a divisor of the 1 .* of .*small"):
        prepare(spec(kit, small_model=small, options={"tensor_parallel_size": 2}))


def test_no_compiler(kit: Kit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidInput, match="enforce_eager: got False; accepted: true, or a C\\+\\+ compiler"):
        prepare(spec(kit))
    prepare(spec(kit, options={"enforce_eager": True}))


def test_defaults(kit: Kit) -> None:
    """Without a length both models' contexts decide; special tokens are the tokenizer's and the models' own."""
    prepared = prepare(spec(kit))
    assert prepared.options["max_model_len"] == 512
    assert prepared.options["additional_config"]["lethe"]["special_ids"] == (0, 1, 2)
    assert prepared.small.vocab_size == len(tiny.tokenizer())
