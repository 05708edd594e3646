"""Number formats: bfloat16, a quantised large model, a pair of another format than the large model's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import families
import quantised
from agreement import ask, largest_difference, random_prompts
from kit import Kit, serve
from on_demand import on_demand
from reference import Reference

KINDS = (None, "plus", "both", "pinned")
# Nats, for logits with a standard deviation of 2: every layer rounds to 8 bits.
BFLOAT16 = 0.5
EXACT = 1e-4
EDGE = 0.3  # an input on the edge between two numbers of the narrow format may fall to either side
CUT_OFF = 1.0  # two digits of keys and values are left, and attention computes with few
IGNORED = ("model.layers.0.mlp.down_proj", "model.layers.1.self_attn.o_proj")

pytestmark = pytest.mark.engine
needs_avx512 = pytest.mark.skipif(
    torch.cpu._is_avx2_supported() and not torch.cpu._is_avx512_supported(), reason="vLLM needs AVX-512 for it"
)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    root = tmp_path_factory.mktemp("precision")
    large = families.build(root / "large", "llama", 1, num_hidden_layers=2)
    small = families.build(root / "small", "qwen3", 2, num_hidden_layers=1)
    return families.build_kit(root, large, small, "qwen3")


def differences(kit: Kit, references: Sequence[Reference], folder: Path, **options: Any) -> list[list[float]]:
    """From each reference, request by request: every kind after a short prompt, then after a long one.

    The first two once more by themselves: few rows are multiplied by other kernels than many.
    """
    kinds = [*KINDS, *KINDS, *KINDS[:2]]
    short, long = random_prompts((30, 90))
    prompts = [*[short] * len(KINDS), *[long] * len(KINDS), short, short]
    with serve(kit, folder, enforce_eager=True, **options) as served:
        outputs = ask(served, kit, prompts[:-2], kinds[:-2], prompt_logprobs=0)
        outputs += ask(served, kit, prompts[-2:], kinds[-2:], prompt_logprobs=0)
    cases: Sequence[Any] = list(zip(outputs, prompts, kinds, strict=True))
    return [
        [largest_difference(output, prompt, reference, kit, kind) for output, prompt, kind in cases]
        for reference in references
    ]


def test_bfloat16(kit: Kit, tmp_path: Path) -> None:
    (found,) = differences(kit, [kit.reference()], tmp_path, dtype="bfloat16")
    assert 0 < max(found) < BFLOAT16


@pytest.mark.skipif(torch.cpu._is_amx_tile_supported(), reason="vLLM's int8 products with AMX take no float32")
@pytest.mark.skipif(
    torch.cpu._is_avx2_supported() and not torch.cpu._is_vnni_supported(), reason="int8 products overflow without VNNI"
)
def test_quantised_large_model(kit: Kit, tmp_path: Path) -> None:
    """Only the large model's layers are quantised, and of those not the ones that its checkpoint leaves out."""
    large = quantised.to_int8(kit.large, tmp_path / "int8", IGNORED)
    reference = kit.reference()
    quantised.compute_in_int8(reference.large, IGNORED)
    served = Kit(large, kit.small, kit.modules, kit.special_ids)
    (found,) = differences(served, [reference], tmp_path, pair_dtype="bfloat16")
    alone, with_pair = found[:: len(KINDS)], [value for place, value in enumerate(found) if place % len(KINDS)]
    assert min(alone) < EXACT
    assert max(alone) < EDGE
    assert EXACT < max(with_pair) < BFLOAT16, "the pair was meant to be in bfloat16"


@pytest.mark.parametrize(
    ("quantise", "round_weights"),
    [
        pytest.param(quantised.to_awq, quantised.round_to_awq, id="AWQ", marks=needs_avx512),
        pytest.param(quantised.to_gptq, quantised.round_to_gptq, id="GPTQ", marks=[on_demand, needs_avx512]),
    ],
)
def test_weights_of_four_bits(quantise: Any, round_weights: Any, kit: Kit, tmp_path: Path) -> None:
    """The same; vLLM computes with such weights in bfloat16, so the pair does too."""
    large = quantise(kit.large, tmp_path / "quantised", IGNORED)
    rounded, everything, nothing = kit.reference(), kit.reference(), kit.reference()
    round_weights(rounded.large, IGNORED)
    round_weights(everything.large, ())
    served = Kit(large, kit.small, kit.modules, kit.special_ids)
    found = differences(served, [rounded, everything, nothing], tmp_path, dtype="bfloat16")
    assert max(found[0]) < BFLOAT16 < min(map(max, found[1:]))


@needs_avx512
def test_quantised_kv_cache(kit: Kit, tmp_path: Path) -> None:
    """Keys and values of the large model and of both lanes lose the same digits."""
    short, whole = kit.reference(), kit.reference()
    short.cache = quantised.Float8Cache
    found = differences(kit, [short, whole], tmp_path, kv_cache_dtype="fp8_e5m2")
    assert max(found[0]) < CUT_OFF < min(found[1])
