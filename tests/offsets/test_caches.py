"""Layers that grow where they lie, against transformers' own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import DynamicLayer

from lethe_offsets.caches import ROOM, RoomyLayer

ROWS, HEADS, SIZE = 3, 2, 4


def new(rows: int, tokens: int = 1) -> tuple[Tensor, Tensor]:
    keys, values = torch.randn(2, rows, HEADS, tokens, SIZE).unbind(0)
    return keys, values


@pytest.fixture
def layers() -> tuple[RoomyLayer, DynamicLayer]:
    """Ours and theirs after one prompt."""
    theirs, began = DynamicLayer(), DynamicLayer()  # type: ignore[no-untyped-call]
    prompt = new(ROWS, 5)
    theirs.update(*prompt)
    began.update(*prompt)
    return RoomyLayer(began), theirs


def append(layers: tuple[RoomyLayer, DynamicLayer], tokens: int = 1) -> None:
    """The same to both, and both give the same."""
    added = new(layers[1].keys.shape[0], tokens)
    for ours, theirs in zip(*(layer.update(*added) for layer in layers), strict=True):
        assert torch.equal(ours, theirs)
    assert layers[0].get_seq_length() == layers[1].get_seq_length()


def test_tokens_beyond_the_room(layers: tuple[RoomyLayer, DynamicLayer]) -> None:
    for _ in range(2 * ROOM + 3):
        append(layers)
    append(layers, tokens=7)


def test_a_token_moves_nothing(layers: tuple[RoomyLayer, DynamicLayer]) -> None:
    append(layers)
    before = layers[0].keys.data_ptr(), layers[0].values.data_ptr()
    for _ in range(ROOM - 1):
        append(layers)
    assert (layers[0].keys.data_ptr(), layers[0].values.data_ptr()) == before


@pytest.mark.parametrize("rows", [[2, 0, 0, 1], [0, 1], [0, 1, 2]])
def test_other_rows_go_on(layers: tuple[RoomyLayer, DynamicLayer], rows: list[int]) -> None:
    append(layers)
    for layer in layers:
        layer.batch_select_indices(torch.tensor(rows))
    append(layers)
    append(layers, tokens=2)


def test_the_first_rows_alone_leave_the_others_as_they_were(layers: tuple[RoomyLayer, DynamicLayer]) -> None:
    append(layers)
    whole = layers[0].keys
    before = whole.clone()
    for layer in layers:
        layer.keys, layer.values = layer.keys[:1], layer.values[:1]
    append(layers)
    assert_close(whole, before, atol=0, rtol=0)


def test_a_shorter_text_goes_on(layers: tuple[RoomyLayer, DynamicLayer]) -> None:
    append(layers, tokens=4)
    append(layers)
    for layer in layers:
        layer.crop(-3)
    append(layers)
    append(layers)
