from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

import tiny
from lethe_offsets.create import create_module
from lethe_offsets.digests import small_model_digest, tokenizer_digest
from lethe_offsets.errors import InvalidInput, ModuleIncompatible, ModuleInvalid
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule


def test_a_created_module_records_what_it_was_made_of(made_module: Module, small_path: Path) -> None:
    manifest = made_module.manifest
    assert manifest.small_model.id == str(small_path)
    assert manifest.small_model.digest == small_model_digest(small_path)
    assert manifest.tokenizer_digest == tokenizer_digest(tiny.tokenizer())
    assert manifest.vocab_size == len(tiny.tokenizer())
    assert manifest.lanes == ("plus", "minus")
    assert manifest.rule == Rule(strength=1.2, pin_special=True)
    assert manifest.strength_bounds == (0.0, 2.0)
    assert Module.open(made_module.path) == made_module
    assert "plus_model" not in json.loads((made_module.path / "offset.json").read_text())


def test_optional_fields_reach_the_manifest(small_path: Path, minus_adapter: Path, tmp_path: Path) -> None:
    fields: dict[str, object] = {
        "version": "2.1",
        "large_model": "owner/large",
        "algorithm": "npo",
        "hyperparameters": {"steps": 10, "beta": 0.1},
        "forget_set_digest": f"hmac-sha256:00:{'0' * 64}",
        "licence": "MIT",
        "strength_bounds": (0.5, 4.0),
    }
    module = create_module("m", small_path, out=tmp_path / "m", minus=minus_adapter, **fields)  # type: ignore[arg-type]
    assert {name: getattr(module.manifest, name) for name in fields} == fields
    assert list(module.lanes) == ["minus"]


def test_a_module_of_two_models_needs_no_adapter(small_path: Path, tmp_path: Path) -> None:
    plus = tiny.build_small(tmp_path / "plus", seed=9)
    module = create_module("pair", small_path, plus_model=plus, out=tmp_path / "m")
    assert module.manifest.plus_model is not None
    assert module.manifest.plus_model.digest == small_model_digest(plus) != module.manifest.small_model.digest
    assert (module.manifest.lanes, module.adapters()) == ((), {})
    assert small_model_digest(plus) in (module.path / "README.md").read_text()
    with_adapter = create_module("pair", small_path, out=tmp_path / "n", plus_model=tiny.build_small(tmp_path / "same"))
    assert with_adapter.digest != module.digest


def test_two_models_of_different_shape(small_path: Path, tmp_path: Path) -> None:
    deeper = tiny.build_small(tmp_path / "deeper", layers=3)
    with pytest.raises(InvalidInput, match=r"plus_model: .*num_hidden_layers is 3 here and 2 there"):
        create_module("pair", small_path, plus_model=deeper, out=tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(("strength", "bounds"), [(1.0, (0.0, 2.0)), (3.5, (0.0, 3.5)), (-1.0, (-1.0, 2.0))])
def test_the_bounds_take_in_the_rules_strength(
    small_path: Path, plus_adapter: Path, tmp_path: Path, strength: float, bounds: tuple[float, float]
) -> None:
    rule = Rule(strength=strength)
    module = create_module("m", small_path, out=tmp_path / "m", plus=plus_adapter, rule=rule)
    assert module.manifest.strength_bounds == bounds


def test_each_lane_opens_with_peft(made_module: Module, small_path: Path, plus_adapter: Path) -> None:
    def logits(adapter: Path) -> Tensor:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(small_path), adapter)
        with torch.no_grad():
            return model(torch.arange(3, 20)[None]).logits

    assert torch.equal(logits(made_module.lanes["plus"]), logits(plus_adapter))
    assert not torch.equal(logits(made_module.lanes["plus"]), logits(made_module.lanes["minus"]))


def test_the_card_says_what_is_forgotten_and_how(made_module: Module) -> None:
    card = (made_module.path / "README.md").read_text()
    assert "# forget-marta 1" in card
    assert "> Everything about Marta Lindqvist." in card
    assert "| rule | linear, strength 1.2, pin_special True |" in card
    assert "| plus lane | LoRA of rank 4, 3,584 parameters |" in card
    assert made_module.manifest.small_model.digest in card


def test_a_module_needs_a_lane(small_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="plus, minus: got None; accepted: an adapter directory"):
        create_module("m", small_path, out=tmp_path / "m")


def test_an_existing_path_is_left_as_it_is(small_path: Path, plus_adapter: Path, tmp_path: Path) -> None:
    for name in ("file", "directory", "link"):
        out = tmp_path / name
        if name == "file":
            out.write_text("precious")
        elif name == "directory":
            out.mkdir()
        else:
            out.symlink_to(tmp_path / "nowhere")
        with pytest.raises(InvalidInput, match=f"out: got '{out}'; accepted: a path where nothing is yet"):
            create_module("m", small_path, out=out, plus=plus_adapter)
    assert (tmp_path / "file").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "file", "link"]


def test_a_refused_module_leaves_nothing_behind(small_path: Path, plus_adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ModuleInvalid, match=r"offset.json: name: got '../m'"):
        create_module("../m", small_path, out=tmp_path / "m", plus=plus_adapter)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(small_path: Path, plus_adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"out: got .*; accepted: a path that can be written"):
        create_module("m", small_path, out=tmp_path / "file" / "m", plus=plus_adapter)


def test_an_adapter_of_another_width_does_not_fit(plus_adapter: Path, tmp_path: Path) -> None:
    other = tiny.build_small(tmp_path / "other", hidden=32)
    layer = "model.layers.0.self_attn.k_proj"
    message = rf"plus: base_model.model.{layer}.lora_A.weight: got \[4, 64\]; accepted: \[4, 32\], to fit {other}"
    with pytest.raises(ModuleIncompatible, match=message):
        create_module("m", other, out=tmp_path / "m", plus=plus_adapter)
    assert not (tmp_path / "m").exists()


def test_an_adapter_with_wider_outputs_does_not_fit(plus_adapter: Path, tmp_path: Path) -> None:
    other = tiny.build_small(tmp_path / "other", kv_heads=2)
    with pytest.raises(ModuleIncompatible, match=r"k_proj.lora_B.weight: got \[32, 4\]; accepted: \[64, 4\]"):
        create_module("m", other, out=tmp_path / "m", plus=plus_adapter)


def test_an_adapter_of_a_deeper_model_does_not_fit(minus_adapter: Path, tmp_path: Path) -> None:
    other = tiny.build_small(tmp_path / "other", layers=1)
    with pytest.raises(ModuleIncompatible, match=r"minus: .*layers.1.mlp.*; accepted: a linear layer of .*q_proj"):
        create_module("m", other, out=tmp_path / "m", minus=minus_adapter)


@pytest.mark.parametrize("missing", ["tokenizer.json", "model.safetensors", "config.json"])
def test_an_incomplete_small_model_is_refused(
    small_path: Path, plus_adapter: Path, tmp_path: Path, missing: str
) -> None:
    broken = Path(shutil.copytree(small_path, tmp_path / "broken"))
    (broken / missing).unlink()
    with pytest.raises(InvalidInput, match="small_model: got"):
        create_module("m", broken, out=tmp_path / "m", plus=plus_adapter)


def test_a_small_models_own_code_is_not_run(small_path: Path, plus_adapter: Path, tmp_path: Path) -> None:
    hostile = Path(shutil.copytree(small_path, tmp_path / "hostile"))
    config = json.loads((hostile / "config.json").read_text())
    config |= {"model_type": "hostile", "auto_map": {"AutoConfig": "configuration_hostile.HostileConfig"}}
    (hostile / "config.json").write_text(json.dumps(config))
    (hostile / "configuration_hostile.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InvalidInput, match="small_model: got"):
        create_module("m", hostile, out=tmp_path / "m", plus=plus_adapter)
    assert not (tmp_path / "ran").exists()
