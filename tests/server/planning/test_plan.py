"""Plans from configs alone, whose sums are written out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lethe_offsets.cli import app
from lethe_offsets.errors import LetheError
from lethe_server.planning.memory import GIB, cached_tokens

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "vocab_size": 1000,  # 1024 in vLLM
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
SMALL = {**LLAMA, "hidden_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2, "tie_word_embeddings": True}
LARGE_LAYER = 2 * 512 * 512 + 2 * 512 * 128 + 3 * 512 * 1024 + 2 * 512
SMALL_LAYER = 2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 1024 + 2 * 128


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, config in {"large": LLAMA, "small": SMALL}.items():
        write(tmp_path / name, config)
    return tmp_path


def write(path: Path, config: dict[str, Any]) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return path


def run(folder: Path, *arguments: str, large: str = "large", small: str = "small", memory: str = "8") -> Any:
    names = ["--model", str(folder / large), "--small-model", str(folder / small), "--gpu-memory", memory]
    return CliRunner().invoke(app, ["plan", *names, *arguments])


def plan(folder: Path, *arguments: str, **named: str) -> dict[str, Any]:
    result = run(folder, "--json", *arguments, **named)
    assert result.exit_code == 0, result.output or result.exception
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def test_bytes_are_the_sums_of_the_shapes(folder: Path) -> None:
    told = plan(folder, "--max-modules", "3", "--max-rank", "12")
    assert told["parameters"] == {
        "large": 4 * LARGE_LAYER + 512 + 2 * 1024 * 512,
        "small": 2 * SMALL_LAYER + 128 + 1024 * 128,
    }
    ends = 2 * ((128 + 128) + 2 * (128 + 64) + (128 + 128) + 2 * (128 + 1024) + (1024 + 128))
    sizes = told["bytes_per_gpu"]
    assert sizes["large"] == 2 * told["parameters"]["large"]
    assert sizes["small"] == 2 * told["parameters"]["small"]
    assert sizes["adapters"] == 2 * 3 * 16 * ends  # the least rank of a slot that holds 12
    # keys and values, of 4 layers with 2 heads of 64, and in both lanes of 2 layers with 2 heads of 32
    assert told["kv_bytes_per_token"] == {"large": 2 * 2 * 4 * 2 * 64, "pair": 2 * 2 * 2 * 2 * 2 * 32}
    taken = sum(sizes[name] for name in ("large", "small", "adapters", "working", "kv_cache"))
    assert taken == pytest.approx(0.92 * 8 * GIB, abs=8)
    assert told["kv_tokens"] == cached_tokens(sizes["kv_cache"], 2048 + 1024)
    assert told["kv_tokens_plain"] > told["kv_tokens"]


def test_several_gpus_share_the_models_and_the_heads_of_the_cache(folder: Path) -> None:
    one, two, four = (plan(folder, "--gpus", str(gpus)) for gpus in (1, 2, 4))
    assert two["bytes_per_gpu"]["large"] == one["bytes_per_gpu"]["large"] / 2
    assert two["kv_bytes_per_token"] == {"large": 1024, "pair": 512}
    assert four["kv_bytes_per_token"] == {"large": 1024, "pair": 512}  # two heads on four GPUs: each has one
    assert "8 attention heads" in str(run(folder, "--gpus", "3").exception)
    write(folder / "odd", {**LLAMA, "hidden_size": 576, "num_attention_heads": 18, "num_key_value_heads": 9})
    assert "9 key heads" in str(run(folder, "--gpus", "2", large="odd").exception)


def test_a_quantization_is_for_the_large_models_layers(folder: Path) -> None:
    plain, eight = plan(folder), plan(folder, "--quantization", "fp8")
    assert eight["bytes_per_gpu"]["small"] == plain["bytes_per_gpu"]["small"]
    assert plain["bytes_per_gpu"]["large"] - eight["bytes_per_gpu"]["large"] == 4 * LARGE_LAYER + 512
    four = {"quant_method": "gptq", "bits": 4, "group_size": 64}
    write(folder / "gptq", {**LLAMA, "quantization_config": four})
    bits = 8 * (plan(folder, large="gptq")["bytes_per_gpu"]["large"] - 2 * 2 * 1024 * 512) / (4 * LARGE_LAYER + 512)
    assert bits == pytest.approx(4 + 20 / 64, abs=1e-4)


def test_the_ratio_follows_from_bytes_where_memory_is_what_takes_time(folder: Path) -> None:
    ratio = plan(folder, "--max-model-len", "1", "--max-modules", "1", "--max-rank", "1")["ratio_to_plain"]["1"]
    large = 2 * (4 * LARGE_LAYER + 512 + 1024 * 512) + 2048
    small = 2 * (2 * SMALL_LAYER + 128 + 1024 * 128) + 1024
    ends = 2 * ((128 + 128) + 2 * (128 + 64) + (128 + 128) + 2 * (128 + 1024) + (1024 + 128))
    assert ratio == pytest.approx(large / (large + small + 2 * ends + 4 * 1000 * 4))


def test_a_plus_lane_of_its_own_is_a_second_small_model(folder: Path) -> None:
    write(folder / "plus", SMALL)
    one, two = plan(folder), plan(folder, "--plus-model", str(folder / "plus"))
    assert two["bytes_per_gpu"]["small"] == 2 * one["bytes_per_gpu"]["small"]
    assert two["kv_bytes_per_token"] == one["kv_bytes_per_token"]
    assert two["ratio_to_plain"]["1"] < one["ratio_to_plain"]["1"]
    assert two["flags"][4:6] == ["--plus-model", str(folder / "plus")]
    result = run(folder, "--plus-model", str(folder / "large"))
    assert "plus_model: got" in str(result.exception)


def test_each_further_offset_is_two_more_lanes(folder: Path) -> None:
    one, three = plan(folder), plan(folder, "--max-offsets", "3")
    assert three["kv_bytes_per_token"]["pair"] == 3 * one["kv_bytes_per_token"]["pair"]
    assert three["bytes_per_gpu"]["small"] == one["bytes_per_gpu"]["small"]
    assert three["ratio_to_plain"]["32"] < one["ratio_to_plain"]["32"]
    assert three["flags"][-2:] == ["--max-offsets-per-request", "3"]
    assert "max_offsets: got 2" in str(
        run(folder, "--max-offsets", "2", "--plus-model", str(folder / "small")).exception
    )


def test_experts_are_held_whole_and_read_in_part(folder: Path) -> None:
    experts = {"num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 256, "head_dim": 64}
    kind = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "decoder_sparse_step": 1}
    write(folder / "moe", {**LLAMA, **kind, **experts})
    told = plan(folder, large="moe")
    routed = 4 * 16 * 3 * 512 * 256
    assert routed < told["parameters"]["large"] < routed + 6e6
    assert told["ratio_to_plain"]["1"] < told["ratio_to_plain"]["8"]  # one row reads few of the large model's weights


def test_what_is_suggested_is_what_the_server_takes(folder: Path) -> None:
    from lethe_server import options

    told = plan(folder, "--gpus", "2", "--quantization", "fp8", "--max-model-len", "2048")
    flags = told["flags"]
    assert flags[:4] == ["--model", str(folder / "large"), "--small-model", str(folder / "small")]
    own = ("--model", "--small-model", "--max-modules-per-batch", "--max-module-rank")
    rest = [
        part for flag, value in zip(flags[::2], flags[1::2], strict=True) if flag not in own for part in (flag, value)
    ]
    engine = options.parse(options.from_arguments(rest)).engine
    assert (engine["tensor_parallel_size"], engine["max_model_len"], engine["quantization"]) == (2, 2048, "fp8")


def test_what_does_not_fit_says_what_does(folder: Path) -> None:
    write(folder / "big", {**LLAMA, "num_hidden_layers": 128, "hidden_size": 2048})
    write(folder / "long", {**SMALL, "max_position_embeddings": 4096})
    result = run(folder, large="big", small="long", memory="5")
    assert result.exit_code == 1
    assert "A request of 4096 tokens does not fit" in result.stdout
    assert "--gpus 2" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "named", "said"),
    [
        ([], {"large": "nothing"}, "model: got"),
        (["--dtype", "int7"], {}, "dtype: got 'int7'"),
        (["--quantization", "sevenbit"], {}, "quantization: got 'sevenbit'"),
        (["--max-model-len", "5000"], {}, "at most 4096"),
        (["--max-rank", "1000"], {}, "1 to 512"),
    ],
)
def test_what_can_not_be(folder: Path, arguments: list[str], named: dict[str, str], said: str) -> None:
    result = run(folder, *arguments, **named)
    assert isinstance(result.exception, LetheError)
    assert said in str(result.exception)


def test_tables_name_the_parts_and_the_command(folder: Path) -> None:
    result = run(folder, large="large/config.json")
    assert result.exit_code == 0
    assert "nothing was measured" in " ".join(result.stdout.split())
    assert f"lethe serve --model {folder / 'large'} --small-model" in result.stdout
