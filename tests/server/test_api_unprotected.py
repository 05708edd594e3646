"""A server without modules, which needs explicit leave, and its way to being protected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit import Kit
from server_process import ADMIN_KEY, Server, serving

pytestmark = pytest.mark.engine
LONGEST, COUNT = 16, 3  # of a pattern that ends an answer, in tokens and times in a row
BODY = {"model": "large", "prompt": "One, two, three", "max_tokens": 8, "temperature": 0, "return_token_ids": True}


@pytest.fixture(scope="module")
def server(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    allowed = ["--allow-unprotected", "--no-console", "--module-dir", str(kit.modules["plain"].path.parent)]
    loops = ["--loop-tokens", str(LONGEST), "--loop-count", str(COUNT)]
    with serving(tmp_path_factory.mktemp("unprotected"), kit, [*allowed, *loops]) as running:
        yield running


def test_the_large_model_alone_and_then_a_module(server: Server, kit: Kit) -> None:
    reference = kit.reference()
    ids = server.post("/tokenize", {"model": "large", "prompt": BODY["prompt"]})["tokens"]
    alone = reference.greedy(ids, None, 8)
    unlearned = reference.greedy(ids, kit.lanes("plain"), 8)
    assert alone != unlearned
    assert server.post("/v1/completions", BODY)["choices"][0]["token_ids"] == alone
    with server.http(ADMIN_KEY) as http:
        (route,) = http.get("/admin/routes").json()
        assert (route["model"], route["module"]) == ("large", "base")
        assert 'lethe_route_info{model="large",module="none"} 1.0' in http.get("/metrics").text
        assert http.post("/admin/modules", json={"source": str(kit.modules["plain"].path)}).status_code == 201
        flipped = http.put("/admin/routes/large", json={"module": "plain"}).json()
        assert (flipped["module"], flipped["previous"]) == (kit.modules["plain"].ref, "base")
    assert server.post("/v1/completions", BODY)["choices"][0]["token_ids"] == unlearned


def looped(tokens: list[int]) -> bool:
    """Whether the tokens end with a pattern that stands there COUNT times in a row."""
    return any(tokens[-size * COUNT :] == tokens[-size:] * COUNT for size in range(1, LONGEST + 1))


def test_an_answer_under_a_module_ends_when_it_loops(server: Server, kit: Kit) -> None:
    reference = kit.reference()
    for number in range(20):
        prompt = f"{number} One, two, three"
        ids = server.post("/tokenize", {"model": "large", "prompt": prompt})["tokens"]
        whole = reference.greedy(ids, kit.lanes("plain"), 120)
        ends = next((end for end in range(1, len(whole)) if looped(whole[:end])), None)
        body = BODY | {"prompt": prompt, "max_tokens": 120, "ignore_eos": True}
        (choice,) = server.post("/v1/completions", body)["choices"]
        if ends is not None:
            assert (choice["finish_reason"], choice["token_ids"]) == ("repetition", whole[:ends])
            break
        assert (choice["finish_reason"], choice["token_ids"]) == ("length", whole)
    else:
        pytest.fail("no answer ran in a loop")
    with server.http(ADMIN_KEY) as http:
        assert 'lethe_requests_total{module="plain",outcome="looped"} 1.0' in http.get("/metrics").text


def test_there_is_no_console_where_it_is_switched_off(server: Server) -> None:
    with server.http(ADMIN_KEY) as http:
        assert [http.get(path).status_code for path in ("/console", "/console/main.js", "/console/")] == [404] * 3
