"""However a request ends, it lets its module go exactly once: the module can then be deleted, and loaded again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

import tiny
from kit import Kit
from lethe_offsets.create import create_module
from lethe_offsets.module import Module
from server_process import ADMIN_KEY, Server

pytestmark = pytest.mark.engine
MODEL = "draining"
LONG = {"max_tokens": 200, "ignore_eos": True}


def ask(server: Server, status: int = 200, path: str = "/v1/completions", **fields: Any) -> Any:
    usual = {"prompt": "One, two", "max_tokens": 4} if path == "/v1/completions" else {}
    body = {"model": MODEL, **usual, **fields}
    with server.http() as http:
        response = http.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


def disconnect(server: Server, after: int, **fields: Any) -> None:
    """Leave after so many events of the stream."""
    body = {"model": MODEL, "prompt": "One, two", "stream": True, **LONG, **fields}
    with server.http() as http, http.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code == 200
        events = (line for line in response.iter_lines() if line.startswith("data: "))
        for _ in range(after):
            next(events)


def leave_before_the_answer(server: Server) -> None:
    with server.http() as http, pytest.raises(httpx.ReadTimeout):
        http.post(
            "/v1/completions", json={"model": MODEL, "prompt": "One", **LONG}, timeout=httpx.Timeout(60, read=0.1)
        )


def stop(server: Server) -> None:
    """At a token that comes."""
    tokens = ask(server, temperature=0, return_token_ids=True)["choices"][0]["token_ids"]
    (choice,) = ask(server, temperature=0, stop_token_ids=tokens[1:2], max_tokens=100)["choices"]
    assert choice["finish_reason"] == "stop"


ENDS: dict[str, Callable[[Server], object]] = {
    "finished": ask,
    "stopped": stop,
    "several choices": lambda server: ask(server, n=3),
    "several prompts": lambda server: ask(server, prompt=["One", "Two", "Three"]),
    "beam search": lambda server: ask(server, use_beam_search=True, n=2, max_tokens=3),
    "chat": lambda server: ask(
        server, path="/v1/chat/completions", messages=[{"role": "user", "content": "One"}], max_completion_tokens=3
    ),
    "responses": lambda server: ask(server, path="/v1/responses", input="One", max_output_tokens=3),
    "tokenize": lambda server: ask(server, path="/tokenize", prompt="One"),
    "a prompt that is too long": lambda server: ask(server, 400, prompt=[5] * 1000),
    "a field out of bounds": lambda server: ask(server, 400, temperature=-1),
    "an unknown field": lambda server: ask(server, 400, temprature=1),
    "a grammar that can't be": lambda server: ask(server, 400, structured_outputs={"regex": "("}),
    "disconnected at once": lambda server: disconnect(server, 0),
    "disconnected in the middle": lambda server: disconnect(server, 3),
    "disconnected with several choices": lambda server: disconnect(server, 3, n=3),
    "left before the answer": leave_before_the_answer,
}


@pytest.fixture(scope="module")
def fresh(kit: Kit) -> Module:
    root = kit.modules["plain"].path.parent
    plus = tiny.random_adapter(kit.small, root / "drained-plus", rank=4, seed=500)
    return create_module("drained", kit.small, plus=plus, out=root / "drained")


def labelled(metrics: str) -> float:
    name = 'lethe_inflight_requests{module="drained"} '
    return sum(float(line.removeprefix(name)) for line in metrics.splitlines() if line.startswith(name))


@pytest.mark.parametrize("end", ENDS)
def test_the_module_can_go_after_any_end(server: Server, fresh: Module, end: str) -> None:
    with server.http(ADMIN_KEY) as http:
        assert http.post("/admin/modules", json={"source": str(fresh.path)}).is_success
        assert http.put(f"/admin/routes/{MODEL}", json={"module": fresh.ref}).is_success
        ENDS[end](server)
        assert http.put(f"/admin/routes/{MODEL}", json={"module": "plain"}).is_success
        deleted = http.delete(f"/admin/modules/{fresh.ref}")
        assert deleted.status_code == 204, deleted.text
        shown = http.get("/metrics").text
    assert labelled(shown) == 0
    assert "Traceback" not in server.log.read_text()


def test_a_module_stays_until_its_stream_has_ended(server: Server, fresh: Module) -> None:
    with server.http(ADMIN_KEY) as http:
        assert http.post("/admin/modules", json={"source": str(fresh.path)}).is_success
        assert http.put(f"/admin/routes/{MODEL}", json={"module": fresh.ref}).is_success
        body = {
            "model": MODEL,
            "prompt": "One, two",
            "stream": True,
            "return_token_ids": True,
            "temperature": 0,
            **LONG,
        }
        expected = ask(server, temperature=0, return_token_ids=True, **LONG)["choices"][0]["token_ids"]
        with http.stream("POST", "/v1/completions", json=body) as response:
            lines = response.iter_lines()
            first = next(lines)
            with server.http(ADMIN_KEY) as other:
                assert other.put(f"/admin/routes/{MODEL}", json={"module": "plain"}).is_success
                (shown,) = [each for each in other.get("/admin/modules").json() if each["ref"] == fresh.ref]
                assert (shown["inflight"], shown["status"]) == (1, "resident")
                assert other.delete(f"/admin/modules/{fresh.ref}").status_code == 204  # waits for the stream
            rest = "\n".join([first, *lines])
        assert rest.count('"finish_reason":"length"') == 1
        tokens = [int(token) for part in rest.split('"token_ids":[')[1:] for token in part.split("]")[0].split(",")]
        assert tokens == expected
