"""What is counted of rows of logits, against arithmetic in float64 row by row."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lethe_offsets.pair import Rule, RuleRows, apply_rules
from lethe_server.engine.adapters import AdapterSlots, SlotRule
from lethe_server.engine.tallies import DIVERGENCE_BOUNDS, Tallies, Tally

VOCABULARY = 50
SPECIAL = torch.tensor([0, 1])
CLIPPED, PLAIN = Rule(clip=1.5), Rule()
MIXED = [0, 1, -1, 1, 0, -1, 1, 1]


def rows(seed: int, count: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(count, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def tallies(every: int = 1, capacity: int = 4) -> Tallies:
    """Adapter 7, whose rule clips, in slot 0, and adapter 9 in slot 1."""
    made = Tallies(2, capacity, torch.device("cpu"), every)
    made.open(7)
    made.open(9)
    made.place([7, 9])
    return made


def add(
    counted: Tallies, slots: list[int], seed: int = 0, large: Tensor | None = None, plus: Tensor | None = None
) -> None:
    index = torch.tensor(slots, dtype=torch.long)
    large = rows(seed, len(slots), 0.5) if large is None else large
    plus, minus = rows(seed + 1, len(slots)) if plus is None else plus, rows(seed + 2, len(slots), 0.2)
    taken = RuleRows.stack([CLIPPED, PLAIN]).take(index)
    counted.add(index, large, [(plus, minus)], apply_rules(large, plus, minus, taken, SPECIAL), [taken])


def read(counted: Tallies) -> dict[int, Tally]:
    return {adapter: Tally.of(values) for adapter, values in counted.read()}


def test_each_modules_rows_are_counted_and_compared() -> None:
    counted = tallies()
    large, plus, minus = rows(0, 8, 0.5), rows(1, 8), rows(2, 8, 0.2)
    add(counted, MIXED)
    found = read(counted)
    for slot, (adapter, rule) in enumerate({7: CLIPPED, 9: PLAIN}.items()):
        mine = [row for row, own in enumerate(MIXED) if own == slot]
        divergences, changed, clipped = [], 0, 0
        for row in mine:
            offset = (plus[row] - minus[row]).double()
            clipped += rule.clip is not None and bool(offset.abs().max() > rule.clip)
            bound = math.inf if rule.clip is None else rule.clip
            after, before = large[row].double() + offset.clamp(-bound, bound), large[row].double()
            p, q = after.softmax(-1), before.softmax(-1)
            divergences.append(float((p * (p / q).log()).sum()))
            changed += int(after.argmax()) != int(before.argmax())
        tally = found[adapter]
        assert (tally.rows, tally.refused, tally.compared) == (len(mine), 0, len(mine))
        assert (tally.changed, tally.clipped) == (changed, clipped)
        assert tally.divergence == pytest.approx(sum(divergences), rel=1e-5)
        assert tally.within == tuple(sum(each <= bound for each in divergences) for bound in DIVERGENCE_BOUNDS)
    assert found[7].clipped
    assert found[9].changed


def test_reading_begins_anew_and_rows_without_a_module_are_nobodys() -> None:
    counted = tallies()
    add(counted, MIXED)
    counted.read()
    assert counted.read() == []
    add(counted, [-1, -1])
    assert counted.read() == []


def test_refused_rows_are_not_compared() -> None:
    counted = tallies()
    plus = rows(1, 3)
    plus[1, 5] = math.inf
    plus[2, 5] = math.nan
    add(counted, [1, 1, 1], plus=plus)
    tally = read(counted)[9]
    assert (tally.rows, tally.refused, tally.compared) == (3, 2, 1)
    assert math.isfinite(tally.divergence)


def test_tokens_that_no_model_gives_any_probability_add_nothing() -> None:
    counted = tallies()
    large = rows(0, 2, 3.0)
    large[:, -4:] = -math.inf
    add(counted, [1, 1], large=large)
    assert 0 < read(counted)[9].divergence < math.inf


def test_a_sample_is_one_row_in_so_many_whatever_the_batch() -> None:
    for batch in (1, 3, 8, 50):
        counted = tallies(every=4)
        for _ in range(4800 // batch):
            add(counted, [1] * batch)
        tally = read(counted)[9]
        assert tally.rows == 4800
        assert 1000 < tally.compared < 1400, batch


def test_a_slot_that_gets_another_adapter_mixes_nothing() -> None:
    counted = tallies()
    add(counted, [0, 0, 0])
    counted.open(11)
    counted.place([11, 9])
    add(counted, [0, 1])
    counted.place([9, 7])
    add(counted, [0, 1, 1])
    assert {adapter: tally.rows for adapter, tally in read(counted).items()} == {7: 5, 9: 2, 11: 1}


def test_an_adapter_that_is_gone_is_read_once_more_and_its_account_is_free_then() -> None:
    counted = tallies(capacity=2)
    add(counted, [0])
    counted.close(7)
    assert {adapter: tally.rows for adapter, tally in read(counted).items()} == {7: 1}
    add(counted, [0])  # a last step of a request that was given up
    counted.open(12)
    counted.place([12, 9])
    add(counted, [0, 0])
    assert {adapter: tally.rows for adapter, tally in read(counted).items()} == {12: 2}


def test_where_nobody_reads_accounts_are_used_again() -> None:
    counted = Tallies(1, 2, torch.device("cpu"), 1)
    for adapter in range(1, 9):
        counted.open(adapter)
        counted.place([adapter])
        add(counted, [0])
        counted.close(adapter)
    assert [adapter for adapter, _ in counted.read()] == [7, 8]


def test_an_adapter_beyond_the_accounts_is_not_counted() -> None:
    counted = tallies(capacity=2)
    counted.open(13)
    counted.place([13, 9])
    add(counted, [0, 1])
    assert {adapter: tally.rows for adapter, tally in read(counted).items()} == {9: 1}


class Mapping:
    """As much of vLLM's LoRAMapping as is read. adapters: that of each row."""

    def __init__(self, *adapters: int) -> None:
        self.index_mapping = adapters


def test_slots_used_and_evictions_follow_the_layout() -> None:
    slots = AdapterSlots(2, 4, max_tokens=4, device=torch.device("cpu"), fused=False, capacity=4)
    for adapter in (1, 2, 3):
        slots.register(adapter, SlotRule((Rule(),), (0, 0, 4)))
    slots.update_metadata(Mapping(1), [1, None], 2, VOCABULARY)
    assert (slots.used, slots.evictions) == (1, 0)
    slots.update_metadata(Mapping(2), [1, 2], 2, VOCABULARY)
    slots.update_metadata(Mapping(3), [3, 2], 2, VOCABULARY)
    assert (slots.used, slots.evictions) == (2, 1)
    slots.forget(2)
    assert slots.used == 1
    slots.update_metadata(Mapping(1), [3, 1], 2, VOCABULARY)
    assert (slots.used, slots.evictions) == (2, 1)
