from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

import tiny
from lethe_offsets.adapter import LaneAdapter
from lethe_offsets.errors import ModuleInvalid

Q0 = "model.layers.0.self_attn.q_proj"
Q0_A, Q0_B = f"base_model.model.{Q0}.lora_A.weight", f"base_model.model.{Q0}.lora_B.weight"
IDS = torch.arange(3, 40)[None]


@pytest.fixture
def adapter_path(plus_adapter: Path, tmp_path: Path) -> Path:
    """A copy for the test to change."""
    return Path(shutil.copytree(plus_adapter, tmp_path / "plus"))


def change_tensors(directory: Path, changes: dict[str, Tensor | None]) -> None:
    file = directory / "adapter_model.safetensors"
    tensors = {name: tensor for name, tensor in (load_file(file) | changes).items() if tensor is not None}
    save_file(tensors, file)


def change_config(directory: Path, **changes: object) -> None:
    file = directory / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def fused_logits(small: Path, adapter: LaneAdapter) -> Tensor:
    """Logits of the small model once every pair is added to the weight it names."""
    model = AutoModelForCausalLM.from_pretrained(small)
    with torch.no_grad():
        for name, pair in adapter.pairs.items():
            model.get_submodule(name).weight += pair.scaling * (pair.b @ pair.a)
        return model(IDS).logits


def peft_logits(small: Path, directory: Path) -> Tensor:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(small), directory)
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lora_alpha": 3},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 8, "layers.1.self_attn.v_proj": 3}},
        {"alpha_pattern": {r".*\.1\..*": 40}, "rank_pattern": {"^model.layers.0.self_attn.k_proj": 6}},
        {"use_rslora": True, "rank_pattern": {"o_proj": 2}, "alpha_pattern": {"o_proj": 1}},
        {"target_modules": r".*\.1\.mlp\.(up|down)_proj"},
        {"layers_to_transform": [1], "lora_dropout": 0.1},
    ],
    ids=str,
)
def test_the_fused_pairs_are_what_peft_computes(small_path: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    directory = tiny.random_adapter(small_path, tmp_path / "plus", rank=4, seed=3, **settings)
    expected = peft_logits(small_path, directory)

    assert not torch.allclose(AutoModelForCausalLM.from_pretrained(small_path)(IDS).logits, expected, atol=0.1)
    torch.testing.assert_close(fused_logits(small_path, LaneAdapter.read(directory)), expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_knows_its_layers_rank_and_size(plus_adapter: Path) -> None:
    adapter = LaneAdapter.read(plus_adapter)

    assert sorted(adapter.pairs) == [f"model.layers.{i}.self_attn.{p}_proj" for i in (0, 1) for p in "koqv"]
    assert adapter.pairs[Q0].a.shape == (4, 64)
    assert adapter.pairs[Q0].b.shape == (64, 4)
    assert adapter.pairs[Q0].scaling == 2.0  # alpha 8 over rank 4
    assert adapter.rank == 4
    assert adapter.num_parameters == 2 * 4 * ((64 + 64) + (64 + 32) + (64 + 32) + (64 + 64))  # q, k, v, o of 2 layers


def test_the_rank_is_the_largest_of_any_layer(small_path: Path, tmp_path: Path) -> None:
    directory = tiny.random_adapter(small_path, tmp_path / "plus", rank=2, rank_pattern={"v_proj": 5})
    assert LaneAdapter.read(directory).rank == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type: got 'IA3'; accepted: Input should be 'LORA'"),
        ({"bias": "all"}, "bias: got 'all'; accepted: Input should be 'none'"),
        ({"r": 0}, "r: got 0; accepted: Input should be greater than 0"),
        ({"r": "4"}, "r: got '4'"),
        ({"lora_alpha": None}, "lora_alpha: got None"),
        ({"use_dora": True}, "use_dora: got True; accepted: off"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save: got \['lm_head'\]; accepted: off"),
        ({"auto_mapping": {"base_model_class": "X"}}, "auto_mapping: got .*; accepted: off"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out: got True; accepted: off"),
        ({"layer_replication": [[0, 2]]}, "layer_replication: got .*; accepted: off"),
        ({"lora_bias": True}, "lora_bias: got True; accepted: off"),
        ({"trainable_token_indices": [1]}, r"trainable_token_indices: got \[1\]; accepted: off"),
        ({"target_parameters": ["mlp.experts"]}, "target_parameters: got .*; accepted: off"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens: got .*; accepted: off"),
        ({"of_the_next_peft": 1}, "of_the_next_peft: got 1; accepted: off"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: got 'pissa'"),
        ({"rank_pattern": {"(": 3}}, r"rank_pattern.*a regular expression \("),
        ({"target_modules": "a{99999999999}"}, "target_modules.*a regular expression"),
        ({"alpha_pattern": {"q_proj": "1"}}, "alpha_pattern.q_proj: got '1'"),
    ],
)
def test_a_setting_that_a_lane_cannot_carry_is_refused(
    adapter_path: Path, changes: dict[str, object], message: str
) -> None:
    change_config(adapter_path, **changes)
    with pytest.raises(ModuleInvalid, match=f"plus/adapter_config.json: {message}"):
        LaneAdapter.read(adapter_path)


def test_a_setting_of_a_later_peft_is_accepted_while_it_is_off(adapter_path: Path) -> None:
    change_config(adapter_path, of_the_next_peft=None, another=False)
    assert LaneAdapter.read(adapter_path).rank == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({Q0_A: None}, f"{Q0_A}: got None; accepted: both lora_A and lora_B"),
        ({Q0_B: None}, f"{Q0_B}: got None; accepted: both lora_A and lora_B"),
        ({"base_model.model.lm_head.weight": torch.ones(2, 2)}, "tensor: got 'base_model.model.lm_head.weight'"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2, 2)}, "tensor: got .*lora_embedding_A"),
        ({Q0_A.replace("base_model.model.", ""): torch.ones(2, 2)}, f"tensor: got '{Q0}.lora_A.weight'"),
        ({Q0_A: torch.full((4, 64), torch.nan)}, f"{Q0_A}: got 'NaN or infinity'; accepted: finite numbers"),
        ({Q0_B: torch.full((64, 4), torch.inf)}, f"{Q0_B}: got 'NaN or infinity'"),
        ({Q0_A: torch.ones(4, 64, dtype=torch.int8)}, f"{Q0_A}: got 'torch.int8'; accepted: torch.float32,"),
        ({Q0_A: torch.ones(4, 8, 8)}, rf"{Q0_A}: got 'shape \[4, 8, 8\]'; accepted: a matrix"),
        ({Q0_A: torch.ones(4, 0)}, rf"{Q0_A}: got 'shape \[4, 0\]'"),
        ({Q0_A: torch.ones(5, 64)}, r"q_proj: got 'lora_A \[5, 64\], lora_B \[64, 4\]'; accepted: lora_A \[4, in\]"),
        ({Q0_B: torch.ones(64, 5)}, r"q_proj: got 'lora_A \[4, 64\], lora_B \[64, 5\]'"),
        ({Q0_A: torch.ones(4, 64).half()}, "q_proj: got 'torch.float16 and torch.float32'; accepted: one dtype"),
    ],
)
def test_a_tensor_that_is_no_half_of_a_pair_is_refused(
    adapter_path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    change_tensors(adapter_path, changes)
    with pytest.raises(ModuleInvalid, match=f"plus/adapter_model.safetensors: .*{message}"):
        LaneAdapter.read(adapter_path)


def test_a_layer_that_peft_would_pass_over_is_refused(adapter_path: Path) -> None:
    change_config(adapter_path, target_modules=["k_proj", "v_proj", "o_proj"])
    with pytest.raises(ModuleInvalid, match="q_proj: got 'tensors'; accepted: layers of target_modules"):
        LaneAdapter.read(adapter_path)


def test_half_precision_adapters_are_accepted(adapter_path: Path) -> None:
    tensors = load_file(adapter_path / "adapter_model.safetensors")
    change_tensors(adapter_path, {name: tensor.bfloat16() for name, tensor in tensors.items()})
    assert LaneAdapter.read(adapter_path).pairs[Q0].a.dtype == torch.bfloat16


EXOTIC = b'{"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}'


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", len(EXOTIC).to_bytes(8, "little") + EXOTIC + b"\0"])
def test_what_is_no_safetensors_file_is_refused(adapter_path: Path, content: bytes) -> None:
    (adapter_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ModuleInvalid, match=r"plus/adapter_model.safetensors: got .*; accepted: a safetensors file"):
        LaneAdapter.read(adapter_path)


def test_an_adapter_without_tensors_is_refused(adapter_path: Path) -> None:
    (adapter_path / "adapter_model.safetensors").write_bytes(save({}))
    with pytest.raises(ModuleInvalid, match="got 'no tensors'"):
        LaneAdapter.read(adapter_path)


def test_a_directory_with_a_pickle_only_is_refused(adapter_path: Path) -> None:
    (adapter_path / "adapter_model.safetensors").rename(adapter_path / "adapter_model.bin")
    with pytest.raises(ModuleInvalid, match=r"plus/adapter_model.safetensors: got None; accepted: .*safetensors"):
        LaneAdapter.read(adapter_path)
