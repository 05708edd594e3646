"""A route of two modules whose offsets are added, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from kit import Kit
from reference import Lanes
from server_process import ADMIN_KEY, Server, serving

pytestmark = pytest.mark.engine
PROMPT = "Where was Marta Lindqvist born?"
NUM_TOKENS = 12
NAMES = ("plain", "ranked")  # of different rules, which can't be merged


@pytest.fixture(scope="module")
def server(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    arguments = [argument for module in kit.modules.values() for argument in ("--module", str(module.path))]
    routes = ["--route", "one=plain", "--route", "two=ranked"]
    with serving(
        tmp_path_factory.mktemp("sums"), kit, [*arguments, *routes, "--max-offsets-per-request", "2"]
    ) as running:
        yield running


def put(server: Server, names: tuple[str, ...], kit: Kit) -> tuple[int, Any]:
    with server.http(ADMIN_KEY) as http:
        response = http.put("/admin/routes/both", json={"modules": [kit.modules[name].ref for name in names]})
    return response.status_code, response.json()


def answer(server: Server, model: str, **headers: str) -> tuple[str, list[int]]:
    """Which modules answered, and their greedy tokens."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": NUM_TOKENS, "temperature": 0}
    with server.http(ADMIN_KEY) as http:
        response = http.post(
            "/v1/completions", json={**body, "ignore_eos": True, "return_token_ids": True}, headers=headers
        )
    assert response.is_success, response.text
    return response.headers["x-lethe-module"], response.json()["choices"][0]["token_ids"]


def test_a_route_of_two_is_the_sum_of_their_offsets(server: Server, kit: Kit) -> None:
    assert put(server, NAMES[::-1], kit)[0] == 200
    ids = server.post("/tokenize", {"model": "both", "prompt": PROMPT})["tokens"]
    reference, lanes = kit.reference(), [kit.lanes(name) for name in NAMES]
    ref = "+".join(kit.modules[name].ref for name in NAMES)
    assert answer(server, "both") == (ref, reference.greedy(ids, kit.lanes("plain+ranked"), NUM_TOKENS))

    halved = [replace(each, rule=replace(each.rule, strength=0.5)) for each in lanes if isinstance(each, Lanes)]
    assert len(halved) == 2
    assert answer(server, "both", **{"X-Lethe-Strength": "0.5"})[1] == reference.greedy(ids, halved, NUM_TOKENS)
    for model, name in (("one", "plain"), ("two", "ranked")):
        assert answer(server, model) == (kit.modules[name].ref, reference.greedy(ids, kit.lanes(name), NUM_TOKENS))
    assert len({tuple(answer(server, model)[1]) for model in ("one", "two", "both")}) == 3
    assert server.metric('lethe_offset_refused_rows_total{module="plain+ranked"}') == 0
    assert server.metric('lethe_module_info{digest="') == 3


def test_more_than_the_server_adds_are_refused(server: Server, kit: Kit) -> None:
    status, body = put(server, tuple(kit.modules), kit)
    assert status == 422
    assert "modules: got 3; accepted: at most 2" in body["error"]["message"]
    assert "--max-offsets-per-request" in body["error"]["message"]
