"""The adapters' products, both forms, against row-by-row arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lethe_server.engine import kernels
from lethe_server.engine.adapters import AdapterSlots, LayerAdapters

SLOTS, RANK, SIZE_IN = 4, 8, 48
WIDTHS = [32, 16, 16]
PLUS_RANKS = [8, 8, 5, 0]  # plus only, plus only, both lanes, minus only


@pytest.fixture(scope="module", autouse=True)
def _operator(tmp_path_factory: pytest.TempPathFactory) -> None:
    kernels.load(tmp_path_factory.mktemp("kernels"))


def layer(fused: bool, dtype: torch.dtype, token_slots: list[int]) -> LayerAdapters:
    """A layer with random adapters, not at the start of the weights."""
    slots = AdapterSlots(SLOTS, RANK, max_tokens=len(token_slots) + 3, device=torch.device("cpu"), fused=fused)
    slots.token_slots[: len(token_slots)] = torch.tensor(token_slots)
    slots.plus_ranks.copy_(torch.tensor(PLUS_RANKS))
    adapters = LayerAdapters(slots, 7, SIZE_IN, WIDTHS)
    slots.weights = torch.randn(7 + adapters.numel, generator=torch.Generator().manual_seed(3)).to(dtype)
    return adapters


def by_hand(adapters: LayerAdapters, y: Tensor, x: Tensor, token_slots: list[int]) -> Tensor:
    """float64, through the views that vLLM writes."""
    out = y.double()
    a_stacked, b_stacked = adapters.views()
    for token, slot in enumerate(token_slots):
        for lane in range(2):
            ranks = slice(0, PLUS_RANKS[slot]) if lane == 1 else slice(PLUS_RANKS[slot], RANK)
            start = 0
            for a, b, width in zip(a_stacked, b_stacked, WIDTHS, strict=True):
                if slot >= 0:
                    hidden = a[slot, 0, ranks].double() @ x[2 * token + lane].double()
                    out[2 * token + lane, start : start + width] += b[slot, 0, :, ranks].double() @ hidden
                start += width
    return out


MIXED = [0, 0, -1, 2, 3, 1, 2, 2, 2, 2, 2, -1, 0]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "token_slots", [[0], [-1], [2], [3], MIXED, [2] * 700 + MIXED], ids=["plus", "none", "both", "minus", "mix", "long"]
)
def test_each_row_gets_its_slots_adapter_on_its_lane(fused: bool, token_slots: list[int]) -> None:
    adapters = layer(fused, torch.float32, token_slots)
    x = torch.randn(2 * len(token_slots), SIZE_IN, generator=torch.Generator().manual_seed(0))
    y = torch.randn(2 * len(token_slots), sum(WIDTHS), generator=torch.Generator().manual_seed(1))
    expected = by_hand(adapters, y, x, token_slots)
    before = y.clone()
    adapters.add_lora_linear(y, x)

    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-4)
    if token_slots == [-1]:
        assert torch.equal(y, before)
    else:
        assert not torch.equal(y, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    adapters = layer(True, dtype, MIXED)
    x = torch.randn(2 * len(MIXED), SIZE_IN).to(dtype)
    y = torch.zeros(2 * len(MIXED), sum(WIDTHS), dtype=dtype)
    expected = by_hand(adapters, y, x, MIXED)
    adapters.add_lora_linear(y, x)

    assert torch.equal(y, expected.to(dtype)) or torch.allclose(
        y.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-3
    )


def test_an_unsound_weight_reaches_only_its_modules_rows() -> None:
    adapters = layer(True, torch.float32, MIXED)
    adapters.views()[1][0][1, 0, 3, 2] = torch.nan  # slot 1
    y = torch.zeros(2 * len(MIXED), sum(WIDTHS))
    adapters.add_lora_linear(y, torch.ones(2 * len(MIXED), SIZE_IN))

    spoilt = [row // 2 for row in range(len(y)) if y[row].isnan().any()]
    assert spoilt == [MIXED.index(1)]
