"""The pair in a notebook: loading it, its logits, and the page's example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import tiny
from lethe_offsets import ensemble_logits, load_module, load_pair
from lethe_offsets.create import create_module
from lethe_offsets.errors import InvalidInput, ModuleCorrupt, ModuleIncompatible
from lethe_offsets.module import Module
from lethe_offsets.notebook import Pair
from lethe_offsets.pair import Rule
from lethe_offsets.training.reference import load_model
from pages import blocks, section

PAGE = "offsets/README.md"
IDS = torch.tensor([[0, 40, 50, 60], [2, 2, 0, 91]])
MASK = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])


def test_a_module_is_the_one_with_its_digest(made_module: Module) -> None:
    assert load_module(made_module.path) == load_module(str(made_module.path), made_module.digest) == made_module
    with pytest.raises(ModuleCorrupt, match="digest: got"):
        load_module(made_module.path, f"sha256:{'0' * 64}")


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_are_the_ensembles(side: str, pair: Pair) -> None:
    ids, mask = (IDS, MASK) if side == "left" else (IDS.flip(1), MASK.flip(1))
    found, expected = ensemble_logits(pair, ids, mask), pair.ensemble.logits(ids, mask)
    assert found.dtype == torch.float32
    assert found.shape == (2, 4, 384)
    assert_close(found[mask.bool()], expected[mask.bool()], atol=1e-4, rtol=0)
    assert_close(ensemble_logits(pair, ids[:1]), expected[:1], atol=1e-4, rtol=0)
    large = pair.ensemble.large(ids[:1]).logits
    assert (found[:1] - large).abs().max() > 0.1


def test_another_strength_is_the_rules(pair: Pair, made_module: Module, small_path: Path) -> None:
    off = load_pair(made_module, small_path, pair.ensemble.large, pair.tokenizer, strength=0.0)
    large = pair.ensemble.large(IDS[:1]).logits
    assert_close(ensemble_logits(off, IDS[:1]), large, atol=1e-5, rtol=0)
    with pytest.raises(InvalidInput, match=r"strength: got 99.0; accepted: .*, the bounds of forget-marta"):
        load_pair(made_module, small_path, pair.ensemble.large, pair.tokenizer, strength=99.0)


def test_the_lanes_have_the_large_models_dtype(pair: Pair, made_module: Module, small_path: Path) -> None:
    large = load_model(pair.tokenizer.name_or_path, dtype=torch.bfloat16)
    half = load_pair(made_module, small_path, large, pair.tokenizer)
    lanes = (half.ensemble.plus, half.ensemble.minus)
    assert all(p.dtype == torch.bfloat16 for lane in lanes if lane is not None for p in lane.parameters())
    assert_close(ensemble_logits(half, IDS[:1]), ensemble_logits(pair, IDS[:1]), atol=0.5, rtol=0)


def test_a_plus_lane_of_its_own(pair: Pair, small_path: Path, tmp_path: Path) -> None:
    plus = tiny.build_small(tmp_path / "plus", seed=9)
    module = create_module("two", small_path, plus_model=plus, rule=Rule(strength=0.5), out=tmp_path / "two")
    found = ensemble_logits(load_pair(module, small_path, pair.ensemble.large, pair.tokenizer), IDS[:1])
    large, own, small = (model(IDS[:1]).logits for model in (pair.ensemble.large, *map(load_model, (plus, small_path))))
    width = own.shape[-1]
    assert_close(found[..., :width], large[..., :width] + 0.5 * (own - small), atol=1e-4, rtol=0)
    plus.rename(tmp_path / "moved")
    tiny.build_small(plus, seed=8)
    with pytest.raises(ModuleIncompatible, match=r"plus_model: got .*plus.*; accepted: sha256:.*, of two"):
        load_pair(module, small_path, pair.ensemble.large, pair.tokenizer)


def test_a_padded_head_is_the_large_models_beyond_the_vocabulary(
    pair: Pair, made_module: Module, small_path: Path, tmp_path: Path
) -> None:
    large = load_model(tiny.build_large(tmp_path, vocab_padding=7))
    wide = load_pair(made_module, small_path, large, pair.tokenizer)
    ids = torch.tensor([[0, 389, 50]])  # a token that the small model doesn't have, as its last one
    large_rows, small_ids = large(ids).logits, ids.clamp_max(383)
    plus, minus = (lane(small_ids).logits for lane in (wide.ensemble.plus, wide.ensemble.minus) if lane is not None)
    moved = large_rows.index_add(-1, torch.arange(384), 1.2 * (plus - minus))
    found, others = ensemble_logits(wide, ids), slice(3, None)  # the first three are pinned, which shifts the others
    shift = found[..., others] - moved[..., others]
    assert_close(shift, shift[..., :1].expand_as(shift), atol=1e-3, rtol=0)
    new = large.generate(ids, logits_processor=[wide.processor()], max_new_tokens=6)
    again = ensemble_logits(wide, new)[0, 2:-1].argmax(-1)
    assert again.tolist() == new[0, 3:].tolist()


def test_another_small_model_or_tokenizer_is_refused(pair: Pair, made_module: Module, small_path: Path) -> None:
    large, elsewhere = pair.ensemble.large, pair.tokenizer.name_or_path
    with pytest.raises(ModuleIncompatible, match=r"small: got .*, for which forget-marta is made"):
        load_pair(made_module, elsewhere, large, pair.tokenizer)
    with pytest.raises(ModuleIncompatible, match="large: got"):
        load_pair(made_module, small_path, large, tiny.tokenizer(300))
    with pytest.raises(InvalidInput, match="small_model: got '/nowhere/else'"):
        load_pair(made_module, "/nowhere/else", large, pair.tokenizer)


@pytest.mark.parametrize(
    ("ids", "mask", "said"),
    [
        (IDS[0], None, r"input_ids: got \[4\]; accepted: the shape \[batch, length\]"),
        (IDS, MASK[:1], r"attention_mask: got \[1, 4\]; accepted: 0 and 1 in shape \[2, 4\]"),
        (IDS, 2 * MASK, r"attention_mask: got \[2, 4\]; accepted: 0 and 1 in shape \[2, 4\]"),
        (IDS, None, r"attention_mask: got None; accepted: the tokenizer's attention_mask, .* padding token, 2"),
    ],
)
def test_input_that_does_not_fit_is_refused(ids: Any, mask: Any, said: str, pair: Pair) -> None:
    with pytest.raises(InvalidInput, match=said):
        ensemble_logits(pair, ids, mask)


def test_the_pages_example_runs(pair: Pair, made_module: Module, small_path: Path) -> None:
    (block,) = blocks(section(PAGE, "In Python"), "python")
    code = block.code
    places = {"large": pair.tokenizer.name_or_path, "small": str(small_path), "module": str(made_module.path)}
    for name, place in places.items():
        assert f'"path/to/{name}"' in code
        code = code.replace(f'"path/to/{name}"', repr(place))
    names: dict[str, Any] = {}
    exec(compile(code, PAGE, "exec"), names)
    ids, mask = names["inputs"]["input_ids"], names["inputs"]["attention_mask"].bool()
    assert not mask.all()
    prompts = [row[used].tolist() for row, used in zip(ids, mask, strict=True)]
    expected = pair.ensemble.generate(prompts, 64, [tiny.tokenizer().eos_token_id])
    assert names["answers"] == pair.tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert names["logits"].shape == (*ids.shape, 384)
