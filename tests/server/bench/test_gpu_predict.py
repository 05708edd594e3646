"""The GPU benchmark's arithmetic, by hand."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu_predict")


def test_published_models_have_their_published_sizes(predictor: Any) -> None:
    shapes = importlib.import_module("gpu_shapes")
    sizes = {
        model.name: predictor.layer_weights(model) + (1 if model.tied else 2) * model.vocabulary * model.hidden
        for pair in shapes.PAIRS.values()
        for model in (pair.large, pair.small)
    }
    billions = (13.0, 1.10, 70.6, 1.24, 27.2, 3.09)
    assert list(sizes.values()) == [pytest.approx(1e9 * size, rel=0.01) for size in billions]


def test_a_step_of_one_request_moves_its_weights(predictor: Any) -> None:
    pair = importlib.import_module("gpu_shapes").PAIRS["13b"]
    device = predictor.Device()
    found = predictor.predict(pair, rows=1, context=100, slots=1, rank=16, device=device)
    layer = 4 * 5120 * 5120 + 3 * 5120 * 13824
    assert found.large.weights == 2 * (40 * layer + 32000 * 5120)
    assert found.large.cache == 100 * 40 * 2 * 40 * 128 * 2
    assert found.small.cache == 2 * 100 * 22 * 2 * 4 * 64 * 2  # two lanes
    small_layer = 4 * 2048 + 2 * (2048 + 256) + 3 * (2048 + 5632)  # in and out of q, o; k, v; the MLP
    assert found.adapters == 16 * 22 * small_layer * 2
    assert found.rules == 4 * 32000 * 4
    moved = found.small.weights + found.small.cache + found.adapters + found.rules
    plain = found.large.weights + found.large.cache
    assert found.ratio(device) == pytest.approx(plain / (plain + moved))
