"""A thousand modules in the catalog, 64 of them in the engine: each is answered by when it is asked for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence

import pytest

import tiny
from engine_requests import lanes_of
from kit import Kit
from lethe_offsets.create import create_module
from lethe_offsets.module import Module
from lethe_server.state.declared import DeclaredState, RouteSpec, Source, Target
from lethe_server.state.directory import DirectoryStore
from server_process import ADMIN_KEY, Server, serving

pytestmark = pytest.mark.engine
NUM_MODULES = 1000
NUM_RESIDENT = 64
NUM_ADAPTERS = 10  # different weights; each is the module of a hundred names
NUM_ASKED = 96
AT_ONCE = 16


@pytest.fixture(scope="module")
def modules(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> list[Module]:
    root = tmp_path_factory.mktemp("many")
    adapters = [
        tiny.random_adapter(kit.small, root / f"adapter{number}", rank=4, seed=700 + number)
        for number in range(NUM_ADAPTERS)
    ]
    return [
        create_module(f"m{number}", kit.small, plus=adapters[number % NUM_ADAPTERS], out=root / f"m{number}")
        for number in range(NUM_MODULES)
    ]


@pytest.fixture(scope="module")
def server(kit: Kit, modules: list[Module], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started from a state directory that declares all of them, each under its own name."""
    folder = tmp_path_factory.mktemp("serving")
    store = DirectoryStore(folder / "state")
    for module in modules:
        store.put_module(module)
    catalog = {module.ref: Source(ref=module.ref, source=str(module.path)) for module in modules}
    routes = {module.name: RouteSpec(targets=(Target(modules=(module.ref,)),)) for module in modules}
    store.write(DeclaredState(generation=1, catalog=catalog, routes=routes))
    arguments = ["--state-dir", str(folder / "state"), "--max-resident-modules", str(NUM_RESIDENT)]
    arguments += ["--max-modules-per-batch", "8", "--max-offsets-per-request", "2"]
    with serving(folder, kit, arguments) as running:
        yield running


async def answers(server: Server, asked: Sequence[Module], at_once: int) -> list[tuple[str, str]]:
    """For each module, which one answered its name, and what."""
    places = asyncio.Semaphore(at_once)
    async with server.async_openai(ADMIN_KEY) as client:

        async def ask(module: Module) -> tuple[str, str]:
            async with places:
                got = await client.completions.with_raw_response.create(
                    model=module.name, prompt="One, two, three", max_tokens=8, temperature=0
                )
            return got.headers["x-lethe-module"], got.parse().choices[0].text

        return await asyncio.gather(*map(ask, asked))


def num_resident(server: Server) -> int:
    with server.http(ADMIN_KEY) as http:
        return sum(line.startswith("lethe_module_info{") for line in http.get("/metrics").text.splitlines())


async def test_modules_come_when_they_are_asked_for(server: Server, modules: list[Module]) -> None:
    with server.http(ADMIN_KEY) as http:
        assert http.get("/admin/state").json()["modules"] == NUM_MODULES
    assert num_resident(server) == NUM_RESIDENT
    known = [text for _, text in await answers(server, modules[:NUM_ADAPTERS], 1)]
    assert len(set(known)) == NUM_ADAPTERS
    asked = random.Random(0).sample(modules, NUM_ASKED)
    for module, (answered_by, text) in zip(asked, await answers(server, asked, AT_ONCE), strict=True):
        assert (answered_by, text) == (module.ref, known[int(module.name[1:]) % NUM_ADAPTERS])
    assert num_resident(server) == NUM_RESIDENT


async def test_all_residents_at_once(server: Server, modules: list[Module]) -> None:
    together = modules[:NUM_RESIDENT]
    expected = dict(await answers(server, together, 1))
    assert dict(await answers(server, together, NUM_RESIDENT)) == expected
    assert expected.keys() == {module.ref for module in together}


def test_two_of_them_on_one_route_are_the_sum_of_their_offsets(server: Server, kit: Kit, modules: list[Module]) -> None:
    prompt, two = "Where was Marta Lindqvist born?", modules[:2]
    ids = server.post("/tokenize", {"model": two[0].name, "prompt": prompt})["tokens"]
    asked = {"prompt": prompt, "max_tokens": 12, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    found = []
    with server.http(ADMIN_KEY) as http:
        assert http.put("/admin/routes/two", json={"modules": [each.ref for each in two[::-1]]}).is_success
        for model, headers in (("two", {}), ("two", {"X-Lethe-Strength": "0.5"}), (two[0].name, {}), (two[1].name, {})):
            answer = http.post("/v1/completions", json={**asked, "model": model}, headers=headers)
            found.append((answer.headers["x-lethe-module"], answer.json()["choices"][0]["token_ids"]))
        refused = http.put("/admin/routes/two", json={"modules": [each.ref for each in modules[:3]]})
    joined = "+".join(sorted(each.ref for each in two))
    reference = kit.reference()
    summed, halved = ([lanes_of(each, **rule) for each in two] for rule in ({}, {"strength": 0.5}))
    expected = [(joined, summed), (joined, halved), *((each.ref, lanes_of(each)) for each in two)]
    assert found == [(ref, reference.greedy(ids, lanes, 12)) for ref, lanes in expected]
    assert len({tuple(tokens) for _, tokens in found}) == 4
    assert server.metric('lethe_offset_refused_rows_total{module="m0+m1"}') == 0
    assert refused.status_code == 422
    assert "modules: got 3; accepted: at most 2" in refused.json()["error"]["message"]
