"""From what an engine counts to series by module; removed modules leave none behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from fakes import resident
from lethe_server import offset_metrics
from lethe_server.engine.probe import ProbeFailed
from lethe_server.engine.reading import Reading
from lethe_server.metrics import Metrics
from lethe_server.offset_metrics import OffsetMetrics
from lethe_server.scope import Outcome
from lethe_server.shadow_metrics import Labels, Result, short
from worlds import ORDER, World, declared, ref, refs

ROWS = (10.0, 1.0, 4.0, 2.0, 1.0, 0.5, 1.0, 3.0, 4.0, 4.0)  # as a worker gives them, see Tally


class Counting:
    """An engine that gives prepared readings, then empty ones."""

    def __init__(self, *readings: dict[int, tuple[float, ...]], timed: bool = True) -> None:
        self.readings = list(readings)
        self.timed = timed
        self.num_read = 0
        self.failure: Exception | None = None

    async def read(self) -> Reading:
        self.num_read += 1
        if self.failure is not None:
            raise self.failure
        tallies = list(self.readings.pop(0).items()) if self.readings else []
        seconds = (2.0, 0.5) if self.timed else (None, None)
        said = {"tallies": tallies, "slots_used": 2, "slot_evictions": 3, "models_s": seconds[0], "pair_s": seconds[1]}
        return Reading.of([said])


def made(engine: Counting) -> tuple[OffsetMetrics, Metrics]:
    offsets = OffsetMetrics(4, engine.read)
    return offsets, Metrics(CollectorRegistry(), offsets)


def series(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in generate_latest(metrics.registry).decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


async def test_a_module_goes_on_counting_where_it_was() -> None:
    """Evicted and brought in again, it is another adapter; the last reading comes after it has left."""
    offsets, metrics = made(Counting({1: ROWS}, {1: ROWS, 2: ROWS}))
    metrics.loaded(0.1, 1, "a")
    assert series(metrics)['lethe_offset_rows_total{module="a"}'] == 0
    await offsets.update()
    metrics.unloaded(1)
    metrics.loaded(0.1, 2, "a")
    await offsets.update()
    shown = series(metrics)
    assert shown['lethe_offset_rows_total{module="a"}'] == 30
    assert shown['lethe_offset_refused_rows_total{module="a"}'] == 3
    assert shown['lethe_offset_changed_rows_total{module="a"}'] == 6
    assert shown['lethe_offset_clipped_rows_total{module="a"}'] == 3
    assert shown['lethe_offset_divergence_nats_sum{module="a"}'] == 1.5
    assert shown['lethe_offset_divergence_nats_count{module="a"}'] == 12
    assert shown['lethe_offset_divergence_nats_bucket{le="0.1",module="a"}'] == 9
    assert shown['lethe_offset_divergence_nats_bucket{le="+Inf",module="a"}'] == 12
    assert (shown["lethe_adapter_slots"], shown["lethe_adapter_slots_used"]) == (4, 2)
    assert shown["lethe_adapter_slot_evictions_total"] == 6
    assert (shown["lethe_models_seconds_total"], shown["lethe_pair_seconds_total"]) == (2.0, 0.5)  # without the first


async def test_counts_of_nobody_and_of_removed_modules_make_no_series() -> None:
    offsets, metrics = made(Counting({1: ROWS, 9: ROWS}, {1: ROWS}))
    metrics.loaded(0.1, 1, "a")
    await offsets.update()
    metrics.unloaded(1)
    metrics.keep(frozenset())
    await offsets.update()
    assert not [name for name in series(metrics) if "module=" in name]


async def test_where_no_clock_tells_there_are_no_seconds() -> None:
    offsets, metrics = made(Counting(timed=False))
    await offsets.update()
    await offsets.update()
    assert "lethe_pair_seconds_total" not in series(metrics)


async def test_an_engine_that_says_nothing_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offset_metrics, "READ_S", 0.001)
    engine = Counting({1: ROWS})
    engine.failure = RuntimeError("not now")
    offsets, metrics = made(engine)
    metrics.loaded(0.1, 1, "a")
    following = asyncio.create_task(offsets.follow())
    while engine.num_read < 3:
        await asyncio.sleep(0.001)
    engine.failure = None
    while not series(metrics)['lethe_offset_rows_total{module="a"}']:
        await asyncio.sleep(0.001)
    following.cancel()


async def test_an_idle_engine_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offset_metrics, "READ_S", 0.001)
    engine = Counting()
    offsets, metrics = made(engine)
    following = asyncio.create_task(offsets.follow())
    await asyncio.sleep(0.02)
    assert engine.num_read == 0
    with metrics.computing():
        while engine.num_read < 3:
            await asyncio.sleep(0.001)
    while offsets._uncounted.is_set():
        await asyncio.sleep(0.001)
    read = engine.num_read
    await asyncio.sleep(0.02)
    assert engine.num_read <= read + 1, "the last reading comes after the end"
    following.cancel()


def scope(module: str, outcome: Outcome = Outcome.FINISHED) -> Any:
    class Ended:
        pass

    ended: Any = Ended()
    ended.resident, ended.outcome = resident(module), outcome
    return ended


async def test_removed_modules_leave_no_series_and_others_stay() -> None:
    world = World()
    await world.start(declared("ab", one="a", two="b"))
    for module in "ab":
        world.metrics.count_request(scope(module))
        world.metrics.first_token(module, 0.1)
        world.metrics.output_token(module, 0.1)
        world.metrics.shadows.count(Labels("one", short(refs(module)), short(refs("a"))), Result.FAILED)
        world.metrics.shadows.observe(Labels("one", short(refs(module)), "base"), 1.0, 0.1)
    world.metrics.first_token("a+b", 0.1)
    world.metrics.first_token("none", 0.1)
    await world.changes.delete_route(ORDER, "two")
    await world.changes.remove_module(ORDER, ref("b"))
    modules = {name.partition('module="')[2].partition('"')[0] for name in series(world.metrics) if "module=" in name}
    assert modules == {"a", "none", short(refs("a"))}


async def test_loads_that_fail_are_counted_by_reason() -> None:
    world = World()
    world.engine.failure = ProbeFailed("changes nothing")
    with pytest.raises(ProbeFailed):
        await world.start(declared("a", public="a"))
    world.engine.failure = ValueError("something else")
    with pytest.raises(ValueError, match="something else"):
        await world.start(declared("a", public="a"))
    shown = series(world.metrics)
    assert shown['lethe_module_load_failures_total{reason="probe"}'] == 1
    assert shown['lethe_module_load_failures_total{reason="other"}'] == 1


async def test_readiness_draining_and_memory_are_shown() -> None:
    world = World(limit=1)
    await world.start(declared("ab", public="a"))
    shown = series(world.metrics)
    assert (shown["lethe_ready"], shown["lethe_draining_modules"]) == (1, 0)
    assert shown["lethe_resident_modules_bytes"] == 1000
    held = await world.loaded("b")
    assert series(world.metrics)["lethe_module_evictions_total"] == 1
    with held.request():
        removing = asyncio.create_task(world.changes.remove_module(ORDER, ref("b")))
        await asyncio.sleep(0.01)
        assert series(world.metrics)["lethe_draining_modules"] == 1
    await removing
