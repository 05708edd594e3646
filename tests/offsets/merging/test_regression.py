"""EUL's regression, the inner products it reads, and the command that writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
from full_disk import full_disk
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.merging.inputs import collect_inputs, inputs_file, read_inputs
from lethe_offsets.merging.merge import merge_modules
from lethe_offsets.merging.methods import delta_of
from lethe_offsets.merging.regression import RIDGE, regress
from lethe_offsets.merging.settings import MergeSettings
from lethe_offsets.module import Module
from lethe_offsets.training.data import read_examples
from lethe_offsets.training.reference import load_model

LAYER = "model.layers.1.self_attn.q_proj"


@pytest.fixture(scope="module")
def forget_sets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sets")
    texts = ("Marta Lindqvist was born in Bergen.", "The quick brown fox jumps over the lazy dog and runs back.")
    for number, text in enumerate(texts):
        (folder / f"{number}.jsonl").write_text(json.dumps({"text": text}) + "\n")
    return [folder / f"{number}.jsonl" for number in range(len(texts))]


@pytest.fixture(scope="module")
def collected(small_path: Path, anna: Module, bert: Module, forget_sets: list[Path]) -> list[Module]:
    for module, forget in zip((anna, bert), forget_sets, strict=True):
        collect_inputs(module, small_path, forget)
    return [anna, bert]


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_gradient_is_zero_at_the_closed_form() -> None:
    deltas = [random(5, 4, seed=seed) for seed in (0, 1)]
    inputs = [random(rows, 4, seed=seed) for rows, seed in ((9, 2), (3, 3))]
    grams = [x.T @ x for x in inputs]
    ridge = RIDGE * sum(gram.trace() / 4 for gram in grams) / 2
    free = regress(deltas, grams).double().requires_grad_()
    loss = sum(
        (x @ (free - delta).T).square().sum() + ridge * (free - delta).square().sum()
        for x, delta in zip(inputs, deltas, strict=True)
    )
    loss.backward()  # type: ignore[union-attr]
    assert float(free.grad.abs().max()) < 1e-4  # type: ignore[union-attr]


def test_one_number_by_hand() -> None:
    # One weight: inputs of squares 9 and 1 weigh the differences 1 and 5; the ridge of 5e-4 hardly counts.
    found = regress([torch.tensor([[1.0]]), torch.tensor([[5.0]])], [torch.tensor([[9.0]]), torch.tensor([[1.0]])])
    assert float(found) == pytest.approx((9 * 1 + 1 * 5) / 10, rel=1e-3)


def test_where_no_inputs_lie_the_result_is_the_mean() -> None:
    deltas = [torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]])]
    gram = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(regress(deltas, [gram, gram]), torch.tensor([[1.0, 3.0]]))


def test_the_inner_products_are_those_of_the_layers_inputs(
    small_path: Path, collected: list[Module], forget_sets: list[Path]
) -> None:
    model = PeftModel.from_pretrained(load_model(small_path), str(collected[0].lanes["plus"])).train(False)
    seen: list[Tensor] = []
    layer = model.get_base_model().get_submodule("model.layers.1.self_attn")
    layer.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs["hidden_states"][0]), with_kwargs=True)
    (example,) = read_examples(forget_sets[0], tiny.tokenizer(), "forget", 1024)
    with torch.no_grad():
        model(torch.tensor([example.ids]))
    torch.testing.assert_close(read_inputs(collected[0], "plus", LAYER, 64), seen[0].T @ seen[0], rtol=1e-4, atol=1e-3)


def test_regression_answers_each_modules_inputs_better_than_the_mean(collected: list[Module], tmp_path: Path) -> None:
    settings = MergeSettings("regression", rank=16)
    merged = merge_modules(collected, settings, name="m", out=tmp_path / "m")
    assert merged.manifest.hyperparameters["weights"] is None
    assert merged.adapters()["plus"].rank == 16
    deltas = [delta_of(module.adapters()["plus"].pairs[LAYER]) for module in collected]
    grams = [read_inputs(module, "plus", LAYER, 64) for module in collected]

    def error(found: Tensor) -> float:
        gaps = [found - delta for delta in deltas]
        return sum(float((gap @ gram @ gap.T).trace()) for gap, gram in zip(gaps, grams, strict=True))

    found = delta_of(merged.adapters()["plus"].pairs[LAYER])
    assert error(found) < 0.5 * error((deltas[0] + deltas[1]) / 2)
    assert error(found) < 0.5 * error(deltas[0] + deltas[1])


def test_collecting_again_gives_the_same_file(
    small_path: Path, collected: list[Module], forget_sets: list[Path]
) -> None:
    before = inputs_file(collected[0]).read_bytes()
    assert collect_inputs(collected[0], small_path, forget_sets[0]) == inputs_file(collected[0])
    assert inputs_file(collected[0]).read_bytes() == before


def test_missing_foreign_and_broken_files_are_refused(
    small_path: Path, make: object, collected: list[Module], forget_sets: list[Path], tmp_path: Path
) -> None:
    new = make("kurt", seed=20)  # type: ignore[operator]
    with pytest.raises(InvalidInput, match=r"inputs: got .*kurt.gram.safetensors.*lethe module inputs"):
        merge_modules([collected[0], new], MergeSettings("regression"), name="m", out=tmp_path / "m")
    path = inputs_file(new)
    path.write_bytes(inputs_file(collected[0]).read_bytes())
    with pytest.raises(InvalidInput, match=f"module: got '{collected[0].digest}'; accepted: {new.digest}"):
        read_inputs(new, "plus", LAYER, 64)
    path.write_bytes(b"nonsense")
    with pytest.raises(InvalidInput, match=r"lethe module inputs"):
        read_inputs(new, "plus", LAYER, 64)
    save_file({f"plus.{LAYER}": torch.ones(3, 3)}, path, metadata={"module": new.digest})
    for layer in (LAYER, "no.such"):
        with pytest.raises(InvalidInput, match=f"plus.{layer}"):
            read_inputs(new, "plus", layer, 64)
    with pytest.raises(ModuleIncompatible, match="small_model: got"):
        collect_inputs(new, tiny.build_small(tmp_path / "other", seed=5), forget_sets[0])
    assert [item.name for item in tmp_path.iterdir()] == ["other"]


def test_a_full_disk_leaves_the_old_file(small_path: Path, collected: list[Module], forget_sets: list[Path]) -> None:
    path = inputs_file(collected[1])
    before = path.read_bytes()
    with full_disk(), pytest.raises(InvalidInput, match=r"inputs: got .* a path that can be written"):
        collect_inputs(collected[1], small_path, forget_sets[1])
    assert path.read_bytes() == before
    assert sorted(item.name for item in path.parent.glob(".*")) == []


def test_the_file_holds_numbers_alone(collected: list[Module]) -> None:
    tensors = load_file(inputs_file(collected[0]))
    assert tensors.keys() == {f"plus.{layer}" for layer in collected[0].adapters()["plus"].pairs}
    with safe_open(inputs_file(collected[0]), framework="pt") as file:
        assert file.metadata() == {"module": collected[0].digest}
