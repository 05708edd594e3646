"""A plan's numbers beside those of an engine that holds the same models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kit import Kit, Served, serve
from lethe_server.planning.made import read_config
from lethe_server.planning.memory import GIB, LANES, Pair, cached_tokens, token_bytes
from lethe_server.planning.precision import weight_bytes
from lethe_server.planning.sizes import read_size

pytestmark = pytest.mark.engine
DTYPE, BLOCK, SLOTS, RANK = "float32", 32, 2, 32


@pytest.fixture(scope="module")
def served(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("planned")
    with serve(kit, folder, max_modules_per_batch=SLOTS, enforce_eager=True) as running:
        yield running


@pytest.fixture(scope="module")
def pair(kit: Kit) -> Pair:
    large, small = read_config("model", str(kit.large)), read_config("small_model", str(kit.small))
    return Pair(
        large=read_size("model", large),
        small=read_size("small_model", small),
        dtype=DTYPE,
        large_bytes=weight_bytes("model", large, DTYPE),
        small_bytes=weight_bytes("small_model", small, DTYPE),
        slots=SLOTS,
        rank=RANK,
    )


def held(worker: Any) -> tuple[int, int, int]:
    """Bytes of the large model, of the pair and of the adapter slots."""
    model = worker.model_runner.get_model()
    adapters = model._adapters.weights
    return held_by(model.large), held_by(model.pair), adapters.numel() * adapters.element_size()


def held_by(model: Any) -> int:
    """Bytes of a model's weights; the CPU's kernels have those of linear layers, which say their sizes still."""
    found = sum(each.numel() * each.element_size() for each in model.parameters())
    for layer in model.modules():
        if (
            hasattr(layer, "input_size_per_partition")
            and not hasattr(layer, "base_layer")
            and layer.weight.numel() == 0
        ):
            found += layer.input_size_per_partition * layer.output_size_per_partition * layer.weight.element_size()
    return found


def test_the_engine_holds_as_many_bytes_as_planned(served: Served, pair: Pair) -> None:
    large, small, adapters = served.inside(held)
    assert pair.weights(pair.large, pair.large_bytes) == large
    assert pair.weights(pair.small, pair.small_bytes) == small
    assert pair.adapters == adapters


def test_the_engine_holds_as_many_tokens_as_planned(served: Served, pair: Pair) -> None:
    token = token_bytes(pair.large, DTYPE, 1) + token_bytes(pair.small, DTYPE, 1, LANES)
    config = served.llm.llm_engine.vllm_config.cache_config
    assert config.block_size == BLOCK
    assert cached_tokens(GIB, token, BLOCK) == config.num_gpu_blocks * BLOCK
