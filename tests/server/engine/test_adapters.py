"""The adapters' products, both forms, against row-by-row arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lethe_offsets.pair import Rule
from lethe_server.engine.adapters import AdapterSlots, LayerAdapters, SlotRule

pytestmark = pytest.mark.usefixtures("operators")

SLOTS, RANK, SIZE_IN = 4, 8, 53  # nothing that vectors divide
WIDTHS = [53, 16, 5]
BOUNDS = {  # by lanes, of each slot
    2: [(0, 0, 8), (0, 0, 8), (0, 3, 8), (0, 8, 8)],  # plus only, plus only, both lanes, minus only
    4: [(0, 0, 3, 3, 3), (0, 0, 2, 2, 8), (0, 1, 3, 4, 8), (0, 0, 0, 5, 5)],  # one module, plus twice, all, minus
}


def layer(fused: bool, dtype: torch.dtype, token_slots: list[int], lanes: int = 2) -> LayerAdapters:
    """A layer with random adapters, not at the start of the weights."""
    tokens, device = len(token_slots), torch.device("cpu")
    slots = AdapterSlots(SLOTS, RANK, max_tokens=tokens + 3, device=device, fused=fused, pairs=lanes // 2)
    slots.token_slots[:tokens] = torch.tensor(token_slots)
    slots.bounds.copy_(torch.tensor(BOUNDS[lanes]))
    adapters = LayerAdapters(slots, 7, SIZE_IN, WIDTHS)
    slots.weights = torch.randn(7 + adapters.numel, generator=torch.Generator().manual_seed(3)).to(dtype)
    return adapters


def by_hand(adapters: LayerAdapters, y: Tensor, x: Tensor, token_slots: list[int]) -> Tensor:
    """float64, through the views that vLLM writes."""
    out, lanes = y.double(), adapters.slots.lanes
    a_stacked, b_stacked = adapters.views()
    for token, slot in enumerate(token_slots):
        for lane in range(lanes):
            ranks, row = slice(*BOUNDS[lanes][slot][lane : lane + 2]), lanes * token + lane
            start = 0
            for a, b, width in zip(a_stacked, b_stacked, WIDTHS, strict=True):
                if slot >= 0:
                    hidden = a[slot, 0, ranks].double() @ x[row].double()
                    out[row, start : start + width] += b[slot, 0, :, ranks].double() @ hidden
                start += width
    return out


MIXED = [0, 0, -1, 2, 3, 1, 2, 2, 2, 2, 2, -1, 0]


@pytest.mark.parametrize("lanes", BOUNDS)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "token_slots", [[0], [-1], [2], [3], MIXED, [2] * 700 + MIXED], ids=["plus", "none", "both", "minus", "mix", "long"]
)
def test_each_row_gets_its_slots_adapter_on_its_lane(fused: bool, token_slots: list[int], lanes: int) -> None:
    adapters = layer(fused, torch.float32, token_slots, lanes)
    x = torch.randn(lanes * len(token_slots), SIZE_IN, generator=torch.Generator().manual_seed(0))
    y = torch.randn(lanes * len(token_slots), sum(WIDTHS), generator=torch.Generator().manual_seed(1))
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


class Mapping:
    """As much of vLLM's LoRAMapping as is read. adapters: that of each row."""

    def __init__(self, *adapters: int) -> None:
        self.index_mapping = adapters


def test_every_row_has_the_rules_of_its_adapter_pair_by_pair() -> None:
    slots = AdapterSlots(3, RANK, max_tokens=4, device=torch.device("cpu"), fused=False, pairs=2)
    slots.register(7, SlotRule((Rule(strength=0.5), Rule(strength=2.0, clip=1.0)), (0, 0, 3, 4, 5)))
    slots.register(8, SlotRule((Rule(strength=0.7),), (0, 2, 4)))
    slots.update_metadata(Mapping(8, 0), [None, 7, 8], 3, 0)
    assert slots.bounds.tolist() == [[0] * 5, [0, 0, 3, 4, 5], [0, 2, 4, 4, 4]]
    (alone,) = slots.rules_of(torch.tensor([2, -1]))
    assert (slots.pairs_used, alone.strength.tolist()[0]) == (1, pytest.approx(0.7))

    slots.update_metadata(Mapping(8, 7, 0, 7), [None, 7, 8], 3, 0)
    first, second = slots.rules_of(torch.tensor([2, 1, -1, 1]))
    assert [rules.active.tolist() for rules in (first, second) if rules.active is not None] == [
        [True, True, False, True],
        [False, True, False, True],
    ]
    assert second.strength[[1, 3]].tolist() == [2.0, 2.0]
    assert second.clip[[1, 3]].tolist() == [1.0, 1.0]


def test_an_adapter_is_never_answered_with_a_part_of_its_rules() -> None:
    """Not known yet, known while its rows are computed, forgotten."""
    slots = AdapterSlots(1, RANK, max_tokens=4, device=torch.device("cpu"), fused=False, pairs=2)
    slots.update_metadata(Mapping(7), [7], 1, 0)
    assert all(rules.strength.isnan().all() for rules in slots.rules_of(torch.tensor([0])))
    slots.register(7, SlotRule((Rule(strength=0.5), Rule(strength=2.0)), (0, 0, 3, 4, 5)))
    assert [float(rules.strength) for rules in slots.rules_of(torch.tensor([0]))] == [0.5, 2.0]
    slots.forget(7)
    assert all(rules.strength.isnan().all() for rules in slots.rules_of(torch.tensor([0])))
    assert slots.bounds.tolist() == [[0] * 5]


@pytest.mark.parametrize(("rules", "bounds"), [(3, 7), (1, 5), (2, 4)])
def test_rules_that_do_not_fit_the_lanes(rules: int, bounds: int) -> None:
    slots = AdapterSlots(1, RANK, max_tokens=4, device=torch.device("cpu"), fused=False, pairs=2)
    with pytest.raises(ValueError, match=f"{rules} rules and {bounds} bounds for 4 lanes"):
        slots.register(7, SlotRule((Rule(),) * rules, (0,) * bounds))


def test_an_unsound_weight_reaches_only_its_modules_rows() -> None:
    adapters = layer(True, torch.float32, MIXED)
    adapters.views()[1][0][1, 0, 3, 2] = torch.nan  # slot 1
    y = torch.zeros(2 * len(MIXED), sum(WIDTHS))
    adapters.add_lora_linear(y, torch.ones(2 * len(MIXED), SIZE_IN))

    spoilt = [row // 2 for row in range(len(y)) if y[row].isnan().any()]
    assert spoilt == [MIXED.index(1)]
