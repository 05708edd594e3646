"""What the console asks the administration for, besides what the commands do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

import fakes
from console_steps import SCORES, TRAINING
from worlds import CLIENT, World, client_of, declared, ref, spec


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.start(declared("abc", m="a", n=spec("a", "b")))
    yield made
    await made.http.aclose()


async def test_live_counts_what_is_in_the_engine_and_in_flight(world: World) -> None:
    with world.resident("a").request(), world.resident("b").request():
        live = (await world.http.get("/admin/live")).json()
    assert live["modules"] == {ref(name): {"status": "resident", "inflight": 1} for name in "ab"}
    assert live["routes"] == {"m": [1], "n": [1, 1]}
    assert (live["generation"], live["observed_generation"], live["error"]) == (1, 1, None)


async def test_live_and_details_are_for_administrators(world: World) -> None:
    async with client_of(world.application(), CLIENT) as client:
        for path in ("/admin/live", f"/admin/modules/{ref('a')}/details"):
            assert (await client.get(path)).status_code == 403


async def test_details_are_the_files_own(world: World, tmp_path: Path) -> None:
    files = {"eval.json": {**SCORES, "leak": {"told_4": 0.2, "told_16": 0.3}}, "training.json": TRAINING}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    world.library._known[ref("a")] = replace(fakes.module("a"), path=tmp_path)
    details = (await world.http.get("/admin/modules/a/details")).json()
    assert details["ref"] == ref("a")
    assert details["manifest"]["name"] == "a"
    assert details["training"] == TRAINING
    assert details["facts"] == {"data": "own", "lethe": "0.1.0"}
    assert details["numbers"]["leak.told_16"] == 0.3
    shown = {each["key"]: (each["kind"], each["value"]) for each in details["measures"]}
    assert shown["plain.told"] == ("left", 0.011)
    assert shown["probability.retain"] == ("kept", 0.9)
    assert [each["title"] for each in details["measures"] if each["key"] == "leak.told_16"] == ["Asked 16 times"]


@pytest.mark.parametrize("broken", ["", "[]", "{", '{"a": NaN}'])
async def test_files_that_cant_be_read_are_none(broken: str, world: World, tmp_path: Path) -> None:
    for name in ("eval.json", "training.json"):
        (tmp_path / name).write_text(broken)
    world.library._known[ref("a")] = replace(fakes.module("a"), path=tmp_path)
    answer = await world.http.get("/admin/modules/a/details")
    assert answer.status_code == 200
    assert (answer.json()["training"], answer.json()["numbers"]) == (None, {})


async def test_details_of_a_module_that_is_not_there(world: World) -> None:
    assert (await world.http.get("/admin/modules/nothing/details")).status_code == 404
