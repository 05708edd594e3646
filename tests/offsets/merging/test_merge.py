"""Modules in, one module out: bytes, manifest, refusals."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

import tiny
from full_disk import full_disk
from lethe_offsets.errors import InvalidInput, ModuleIncompatible, ModuleInvalid
from lethe_offsets.manifest import Lane
from lethe_offsets.merging.agreement import choose_rule
from lethe_offsets.merging.merge import merge_modules
from lethe_offsets.merging.methods import delta_of
from lethe_offsets.merging.settings import MergeSettings
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule

CAT = MergeSettings("cat")

Make = Callable[..., Module]


def deltas(module: Module, lane: Lane = "plus") -> dict[str, Tensor]:
    """Weight differences of a lane by layer."""
    return {layer: delta_of(pair) for layer, pair in module.adapters()[lane].pairs.items()}


def test_modules_of_different_ranks_and_layers_add_up(anna: Module, cleo: Module, tmp_path: Path) -> None:
    merged = deltas(merge_modules([anna, cleo], CAT, name="m", out=tmp_path / "m"))
    parts = [deltas(anna), deltas(cleo)]
    assert merged.keys() == parts[1].keys()
    for layer, delta in merged.items():
        torch.testing.assert_close(delta, sum(part[layer] for part in parts if layer in part))


def test_both_lanes_are_merged(make: Make, tmp_path: Path) -> None:
    pairs = [make("dora", seed=4, minus=True), make("emil", seed=5, minus=True)]
    merged = merge_modules(pairs, CAT, name="m", out=tmp_path / "m")
    assert merged.manifest.lanes == ("plus", "minus")
    for lane in merged.manifest.lanes:
        layer = "model.layers.1.self_attn.v_proj"
        expected = deltas(pairs[0], lane)[layer] + deltas(pairs[1], lane)[layer]
        torch.testing.assert_close(deltas(merged, lane)[layer], expected)


def test_equal_inputs_give_equal_bytes(anna: Module, bert: Module, tmp_path: Path) -> None:
    for method in ("cat", "svd", "dare_ties_svd"):
        settings = MergeSettings(method, seed=3)  # type: ignore[arg-type]
        first, second = (merge_modules([anna, bert], settings, name="m", out=tmp_path / method / n) for n in "ab")
        assert first.digest == second.digest


def test_seeds_and_the_callers_generator_are_apart(anna: Module, bert: Module, tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    settings = [MergeSettings("dare_linear", seed=seed) for seed in (0, 1)]
    made = [merge_modules([anna, bert], setting, name="m", out=tmp_path / str(setting.seed)) for setting in settings]
    assert made[0].adapters()["plus"].rank == 4
    assert made[0].digest != made[1].digest
    assert torch.equal(torch.rand(3), expected)


def test_the_manifest_says_what_was_merged(anna: Module, cleo: Module, tmp_path: Path) -> None:
    merged = merge_modules([anna, cleo], MergeSettings("svd", (1.0, 0.5), rank=3), name="m", out=tmp_path / "m")
    manifest = merged.manifest
    assert manifest.algorithm == "merge, svd"
    assert manifest.hyperparameters["modules"] == [anna.ref, cleo.ref]
    assert manifest.hyperparameters["weights"] == [1.0, 0.5]
    assert 0.3 < float(str(manifest.hyperparameters["kept"])) < 1.0
    assert manifest.description == "Everything about anna.\nEverything about cleo."
    assert manifest.licence == "MIT AND Apache-2.0"
    assert manifest.rule == anna.rule
    assert manifest.small_model == anna.manifest.small_model
    assert manifest.created == max(anna.manifest.created, cleo.manifest.created)
    assert merged.adapters()["plus"].rank == 3


def test_a_merged_adapter_opens_with_peft(small_path: Path, anna: Module, cleo: Module, tmp_path: Path) -> None:
    merged = merge_modules([anna, cleo], CAT, name="m", out=tmp_path / "m")
    ids = torch.arange(3, 40)[None]
    model = AutoModelForCausalLM.from_pretrained(small_path)
    with torch.no_grad():
        opened = PeftModel.from_pretrained(model, str(merged.lanes["plus"]))(ids).logits
        by_hand = AutoModelForCausalLM.from_pretrained(small_path)
        for module in (anna, cleo):
            for layer, delta in deltas(module).items():
                by_hand.get_submodule(layer).weight += delta
        torch.testing.assert_close(opened, by_hand(ids).logits, atol=1e-4, rtol=1e-4)


def test_the_bounds_are_those_that_all_allow(make: Make, anna: Module, tmp_path: Path) -> None:
    narrow = make("fritz", seed=6, strength_bounds=(0.5, 1.5))
    merged = merge_modules([anna, narrow], CAT, name="m", out=tmp_path / "m")
    assert merged.manifest.strength_bounds == (0.5, 1.5)
    with pytest.raises(ModuleInvalid, match=r"rule.strength must be within strength_bounds \[0.5, 1.5\], got 2"):
        merge_modules([anna, narrow], CAT, name="m", out=tmp_path / "n", rule=Rule(strength=2.0))
    assert not (tmp_path / "n").exists()


def test_rules_have_to_agree_or_be_chosen(make: Make, anna: Module, tmp_path: Path) -> None:
    stronger = make("gerda", seed=7, rule=dataclasses.replace(anna.rule, strength=1.5))
    other = make("hans", seed=8, rule=Rule(strength=1.2))
    with pytest.raises(ModuleIncompatible, match=r"rule: .*anna.*gerda.*; accepted: .*--rule-from .*--strength"):
        merge_modules([anna, stronger], CAT, name="m", out=tmp_path / "m")
    with pytest.raises(ModuleIncompatible, match="rule: "):
        choose_rule([anna, other], strength=1.0)
    assert choose_rule([anna, stronger], strength=0.5) == dataclasses.replace(anna.rule, strength=0.5)
    assert choose_rule([anna, other], rule_from=other) == other.rule
    assert choose_rule([anna, other], rule_from=other, strength=2.0) == Rule(strength=2.0)
    with pytest.raises(InvalidInput, match="strength: got 99"):
        choose_rule([anna], strength=99.0)


def test_modules_that_do_not_go_together_are_refused(make: Make, anna: Module, bert: Module, tmp_path: Path) -> None:
    foreign = make("ida", seed=9, small=tiny.build_small(tmp_path / "other", seed=5))
    both = make("jan", seed=10, minus=True)
    two = make("kim", seed=11, plus_model=tiny.build_small(tmp_path / "plus", seed=6))
    with pytest.raises(ModuleIncompatible, match=r"plus_model: got .*plus.*; accepted: none: .*, unlike kim's"):
        merge_modules([anna, two], CAT, name="m", out=tmp_path / "m")
    with pytest.raises(ModuleIncompatible, match=r"ida: small model: got 'sha256:.*that of anna; train"):
        merge_modules([anna, foreign], CAT, name="m", out=tmp_path / "m")
    with pytest.raises(ModuleIncompatible, match=r"jan: lanes: got \['minus', 'plus'\]; .*routes of their own"):
        merge_modules([anna, both], CAT, name="m", out=tmp_path / "m")
    for too_few in ([anna], [anna, anna]):
        with pytest.raises(InvalidInput, match=r"modules: .*two or more, each of them once"):
            merge_modules(too_few, CAT, name="m", out=tmp_path / "m")
    with pytest.raises(InvalidInput, match=r"weights: got \[1.0\]; accepted: one for each of the 2 modules"):
        merge_modules([anna, bert], MergeSettings("cat", (1.0,)), name="m", out=tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_what_lies_at_out_stays(anna: Module, bert: Module, tmp_path: Path) -> None:
    (tmp_path / "m").write_text("precious")
    with pytest.raises(InvalidInput, match=r"out: got .* a path where nothing is yet"):
        merge_modules([anna, bert], CAT, name="m", out=tmp_path / "m")
    assert (tmp_path / "m").read_text() == "precious"


def test_a_full_disk_leaves_nothing_behind(anna: Module, bert: Module, tmp_path: Path) -> None:
    with full_disk(), pytest.raises(InvalidInput, match=r"out: got .* a path that can be written"):
        merge_modules([anna, bert], CAT, name="m", out=tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_card_and_a_configuration_that_a_person_can_read(anna: Module, cleo: Module, tmp_path: Path) -> None:
    merged = merge_modules([anna, cleo], CAT, name="m", out=tmp_path / "m")
    config = json.loads((merged.path / "plus" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (10, 10)
    assert config["rank_pattern"]["model.layers.0.mlp.up_proj"] == 6
    assert "> Everything about anna.\n> Everything about cleo." in (merged.path / "README.md").read_text()
