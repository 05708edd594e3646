"""What a run can be told, and the sizes of its models."""

from __future__ import annotations

from typing import Any

import pytest

from lethe_server.bench.servers import SPARE, kv_bytes, kv_tokens
from lethe_server.bench.settings import BenchSettings, Cell
from lethe_server.bench.shapes import FULL, SHAPES
from lethe_server.errors import BadOption


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ratios": (5,)}, "ratios must be among 4, 16, 40, got 5"),
        ({"concurrency": (0,)}, "concurrency must be at least 1"),
        ({"prompts": (2040,)}, "2048 tokens"),
        ({"rounds": 0}, "rounds: got 0"),
        ({"dtype": "float16"}, "dtype: got 'float16'; Input should be 'bfloat16' or 'float32'"),
        ({"speed": 1}, "speed: got 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        BenchSettings.build(**values)


def test_small_models_have_the_sizes_that_they_are_named_for() -> None:
    # By hand: q and o 768 * 768, k and v 768 * 256, three MLP matrices 768 * 2048; ten layers.
    assert FULL.parameters == 10 * (2 * 768 * 768 + 2 * 768 * 256 + 3 * 768 * 2048) == 62_914_560
    for ratio, shape in SHAPES.items():
        assert FULL.parameters / shape.parameters == pytest.approx(ratio, rel=0.02)


def test_peers_run_where_prompts_are_not_too_many() -> None:
    settings = BenchSettings()
    assert settings.peers_run(Cell(16, 512))
    assert not settings.peers_run(Cell(16, 1536))
    assert not BenchSettings(peers=False).peers_run(Cell(1, 32))


def test_both_servers_get_room_for_the_same_tokens() -> None:
    settings = BenchSettings(concurrency=(1, 8), prompts=(32, 100), output_tokens=48, modules=0)
    assert kv_tokens(settings) == 8 * (100 + 48) + 8 * 128
    large = 10 * 2 * 4 * 64 * 2  # layers, keys and values, heads, head size, bytes
    small = 4 * 2 * 1 * 64 * 2
    assert kv_bytes(settings, None) == round(SPARE * large * kv_tokens(settings))
    assert kv_bytes(settings, 40) == round(SPARE * (large + 2 * small) * kv_tokens(settings))
    wide = settings.model_copy(update={"dtype": "float32"})
    assert kv_bytes(wide, 40) == round(SPARE * 2 * (large + 2 * small) * kv_tokens(settings))


def test_small_cells_leave_room_for_one_request_of_the_full_context() -> None:
    assert kv_tokens(BenchSettings(concurrency=(1,), prompts=(32,), modules=0)) == 2048


def test_short_cells_have_more_turns() -> None:
    settings = BenchSettings(rounds=3)
    assert settings.turns(Cell(16, 512)) == settings.turns(Cell(1, 32)) == 12
    assert settings.turns(Cell(16, 1536)) == 3
