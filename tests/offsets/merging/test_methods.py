"""Each method held against PEFT's own, or against arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from lethe_offsets.adapter import LoraPair
from lethe_offsets.errors import InvalidInput
from lethe_offsets.low_rank import Factors, fold, side_by_side
from lethe_offsets.merging.merge import merge_modules
from lethe_offsets.merging.methods import delta_of, merge_pairs
from lethe_offsets.merging.settings import MergeSettings, Method
from lethe_offsets.module import Module

WEIGHTS = (0.7, -1.5)


def random_pair(rank: int, seed: int, scaling: float = 2.0) -> LoraPair:
    draw = torch.Generator().manual_seed(seed)
    return LoraPair(torch.randn(rank, 6, generator=draw), torch.randn(5, rank, generator=draw), scaling)


def by_peft(small: Path, modules: list[Module], method: str, **options: object) -> dict[str, Tensor]:
    """Weight differences of add_weighted_adapter, by layer."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(small), str(modules[0].lanes["plus"]), "0")
    for number, module in enumerate(modules[1:], start=1):
        model.load_adapter(str(module.lanes["plus"]), str(number))
    names = [str(number) for number in range(len(modules))]
    model.base_model.add_weighted_adapter(names, list(WEIGHTS), "merged", method, **options)
    return {
        name.removeprefix("base_model.model."): layer.get_delta_weight("merged").detach()
        for name, layer in model.named_modules()
        if "merged" in getattr(layer, "lora_A", {})
    }


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("cat", {}),
        ("svd", {}),
        ("linear", {}),
        ("ties", {"density": 0.4}),
        ("ties_svd", {"density": 0.4}),
    ],
)
def test_the_result_is_pefts(
    small_path: Path, anna: Module, bert: Module, tmp_path: Path, method: Method, options: dict[str, float]
) -> None:
    settings = MergeSettings(method, WEIGHTS, **options)  # type: ignore[arg-type]
    merged = merge_modules([anna, bert], settings, name="m", out=tmp_path / "m").adapters()["plus"]
    expected = by_peft(small_path, [anna, bert], method, **options)
    assert merged.pairs.keys() == expected.keys()
    for layer, pair in merged.pairs.items():
        torch.testing.assert_close(delta_of(pair), expected[layer], atol=1e-5, rtol=1e-4)


def test_cat_is_the_weighted_sum() -> None:
    pairs = [random_pair(2, 0), random_pair(3, 1, scaling=0.5)]
    merged = merge_pairs(MergeSettings("cat"), pairs, WEIGHTS, rank=1)
    by_hand = 0.7 * 2.0 * pairs[0].b @ pairs[0].a - 1.5 * 0.5 * pairs[1].b @ pairs[1].a
    torch.testing.assert_close(delta_of(merged.pair), by_hand)
    assert merged.pair.rank == 5


def test_linear_counts_the_mixed_products_too() -> None:
    first, second = random_pair(2, 0, scaling=1.0), random_pair(2, 1, scaling=1.0)
    merged = merge_pairs(MergeSettings("linear"), [first, second], (1.0, 1.0), rank=1)
    torch.testing.assert_close(delta_of(merged.pair), (first.b + second.b) @ (first.a + second.a))


def test_ties_keeps_the_large_weights_that_agree_with_the_majority() -> None:
    def one(*values: float) -> LoraPair:
        return LoraPair(torch.eye(4), torch.tensor([values]), 1.0)

    pairs = [one(4.0, 3.0, 1.0, 0.0), one(-6.0, 5.0, 0.0, 1.0)]
    merged = merge_pairs(MergeSettings("ties_svd", density=0.5), pairs, (1.0, 1.0), rank=1)
    # The two largest of each: 4 and 3, -6 and 5. Signs elected by the sums -2 and 8; means over those that agree.
    torch.testing.assert_close(delta_of(merged.pair), torch.tensor([[-6.0, 4.0, 0.0, 0.0]]))


@pytest.mark.parametrize("method", ["dare_linear_svd", "dare_ties_svd"])
def test_dare_drops_at_random_and_scales_up_the_rest(method: Method) -> None:
    pair = random_pair(5, 0)
    torch.manual_seed(0)
    merged = delta_of(merge_pairs(MergeSettings(method, density=0.25), [pair], (1.0,), rank=5).pair)
    dropped = merged.abs() < 1e-4
    torch.testing.assert_close(merged[~dropped], 4.0 * delta_of(pair)[~dropped], atol=1e-4, rtol=1e-4)
    assert 0.5 < dropped.float().mean() < 0.95


def test_a_truncated_result_is_the_nearest_of_its_rank() -> None:
    pairs = [random_pair(2, 0), random_pair(3, 1)]
    merged = merge_pairs(MergeSettings("svd"), pairs, (1.0, 1.0), rank=2)
    whole = delta_of(pairs[0]) + delta_of(pairs[1])
    left, values, right = torch.linalg.svd(whole, full_matrices=False)
    torch.testing.assert_close(delta_of(merged.pair), left[:, :2] @ values[:2].diag() @ right[:2])
    assert merged.lost == pytest.approx(float(values[2:].square().sum()), rel=1e-4)
    assert merged.squares == pytest.approx(float(whole.square().sum()), rel=1e-5)


def test_halves_of_a_truncated_pair_are_of_like_size() -> None:
    pair = Factors.of_pair(fold(random_pair(3, 0))).pair(3)
    torch.testing.assert_close(pair.a.norm(dim=1), pair.b.norm(dim=0))


def test_folding_keeps_the_product_and_its_sign() -> None:
    pair = random_pair(2, 0, scaling=3.0)
    folded = fold(pair, weight=-0.5)
    assert folded.scaling == 1.0
    torch.testing.assert_close(folded.b @ folded.a, -1.5 * pair.b @ pair.a)
    torch.testing.assert_close(delta_of(side_by_side([folded, folded])), -3.0 * pair.b @ pair.a)


def test_linear_needs_one_rank() -> None:
    with pytest.raises(InvalidInput, match=r"linear: ranks: got \[2, 3\]; accepted: .*cat, svd"):
        merge_pairs(MergeSettings("linear"), [random_pair(2, 0), random_pair(3, 1)], (1.0, 1.0), rank=2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "mean"}, "method: got 'mean'; accepted: cat, svd"),
        ({"method": "regression", "weights": (1.0,)}, "weights: .* none with regression"),
        ({"method": "cat", "density": 0.5}, "density: got 0.5; .* with ties or dare"),
        ({"method": "ties", "density": 1.0}, "density: got 1.0"),
        ({"method": "cat", "rank": 4}, "rank: got 4; .* with svd or regression"),
        ({"method": "svd", "rank": 0}, "rank: got 0"),
    ],
)
def test_settings_without_a_use_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        MergeSettings(**fields)  # type: ignore[arg-type]
