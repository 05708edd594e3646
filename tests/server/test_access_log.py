"""The id of a request and its line in the log, with whatever answers."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry, generate_latest

from lethe_server import http_errors
from lethe_server.access_log import AccessLog, note_caller
from lethe_server.auth import Caller, Role
from lethe_server.errors import EngineFull
from lethe_server.logs import JsonFormatter
from lethe_server.metrics import Metrics
from lethe_server.scope import Outcome, RequestScope
from worlds import World, client_of, declared

CALLER = Caller("shop", Role.CLIENT)


@pytest.fixture
async def world() -> World:
    made = World()
    await made.start(declared("a", public="a"))
    return made


@pytest.fixture
def app(world: World) -> FastAPI:
    """An answer, a stream, an error of ours and one that nobody foresaw."""
    made = FastAPI()
    http_errors.install(made)

    @made.post("/v1/answer")
    async def answer() -> dict[str, str]:
        return {"text": "a secret answer"}

    @made.post("/v1/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter(["one", "two"]))

    @made.post("/v1/full")
    async def full() -> None:
        raise EngineFull("all places are in use")

    @made.post("/v1/broken")
    async def broken() -> None:
        raise RuntimeError("nobody foresaw this")

    class Noting:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            request = RequestScope(CALLER, world.routes)
            if scope["type"] == "http":
                note_caller(scope, CALLER, request)
                request.resident, request.model = world.resident("a"), "public"
                request.prompt_tokens, request.output_tokens = 3, 5
            await self.app(scope, receive, send)

    made.add_middleware(Noting)
    made.add_middleware(AccessLog, metrics=world.metrics)
    return made


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "lethe_server.access_log")
    return caplog


def shown(world: World, name: str) -> float:
    lines = generate_latest(world.metrics.registry).decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/answer", 200), ("/v1/stream", 200), ("/v1/full", 503), ("/v1/broken", 500), ("/nowhere", 404)],
)
async def test_every_answer_carries_the_clients_id(app: FastAPI, path: str, status: int) -> None:
    async with client_of(app, {"x-request-id": "a-1.b:2"}) as http:
        response = await http.post(path)
    assert response.status_code == status
    assert response.headers.get_list("x-request-id") == ["a-1.b:2"]
    assert status == 200 or response.json()["error"]["message"]


@pytest.mark.parametrize("sent", ["", "x" * 129, "with space", "new\tline", "é", 'quo"te', "../../etc"])
async def test_an_id_that_is_not_usable_is_replaced(app: FastAPI, sent: str) -> None:
    async with client_of(app) as http:
        given = [await http.post("/v1/answer", headers={"x-request-id": sent.encode()}) for _ in range(2)]
    ids = {response.headers["x-request-id"] for response in given}
    assert len(ids) == 2
    assert all(len(each) == 32 and each.isalnum() for each in ids)


async def test_the_line_says_who_what_and_how_long_and_no_text(
    app: FastAPI, world: World, lines: pytest.LogCaptureFixture
) -> None:
    async with client_of(app, {"x-request-id": "mine"}) as http:
        await http.post("/v1/answer?token=hidden", json={"prompt": "a secret question"})
    (record,) = lines.records
    line = json.loads(JsonFormatter().format(record))
    assert line["message"].startswith("POST /v1/answer 200 ")
    assert line["duration_s"] >= 0
    assert {name: line[name] for name in ("request_id", "key", "status", "path", "model")} == {
        "request_id": "mine",
        "key": "shop",
        "status": 200,
        "path": "/v1/answer",
        "model": "public",
    }
    assert (line["module"], line["prompt_tokens"], line["output_tokens"]) == (world.resident("a").ref, 3, 5)
    assert "secret" not in json.dumps(line)
    assert "hidden" not in json.dumps(line)


async def test_a_line_is_one_line_whatever_the_path(app: FastAPI, lines: pytest.LogCaptureFixture) -> None:
    async with client_of(app) as http:
        await http.post("/v1/%0Aforged " + "x" * 1000)
    (record,) = lines.records
    assert "\n" not in record.getMessage()
    assert len(record.getMessage()) < 1000


async def test_probes_are_for_debugging(app: FastAPI, lines: pytest.LogCaptureFixture) -> None:
    app.add_api_route("/ready", lambda: {"status": "ready"})
    async with client_of(app) as http:
        assert (await http.get("/ready")).status_code == 200
        assert not lines.records
        assert (await http.get("/health")).status_code == 404
    assert len(lines.records) == 1


async def test_answers_are_counted_on_inference_paths(app: FastAPI, world: World) -> None:
    async with client_of(app) as http:
        for path in ("/v1/answer", "/v1/full", "/v1/broken", "/v1/nothing", "/nowhere"):
            await http.post(path)
    for result, count in {"ok": 1, "server_error": 2, "client_error": 1, "aborted": 0}.items():
        assert shown(world, f'lethe_answers_total{{result="{result}"}}') == count


@pytest.mark.parametrize(
    ("status", "outcome", "result"),
    [
        (200, None, "ok"),
        (200, Outcome.FINISHED, "ok"),
        (200, Outcome.ERROR, "server_error"),
        (500, Outcome.ERROR, "server_error"),
        (503, None, "server_error"),
        (400, Outcome.ERROR, "client_error"),
        (200, Outcome.ABORTED, "aborted"),
        (None, None, "aborted"),
    ],
)
def test_how_an_answer_counts(status: int | None, outcome: Outcome | None, result: str) -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.count_answer(status, outcome)
    assert f'lethe_answers_total{{result="{result}"}} 1.0' in generate_latest(metrics.registry).decode()


def test_an_exception_is_part_of_its_json_line() -> None:
    try:
        raise ValueError("wrong")
    except ValueError as err:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "it %s", ("failed",), (type(err), err, None))
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["message"]) == ("error", "it failed")
    assert "ValueError: wrong" in line["exception"]


async def test_a_client_that_is_gone_is_no_error(app: FastAPI, world: World) -> None:
    """A layer outside of the application sees what was sent; here nothing could be."""

    async def left(message: Any) -> None:
        raise OSError("the client has gone")

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def app_that_sends_nothing(scope: Any, receive: Any, send: Any) -> None:
        return None

    layer = AccessLog(app_that_sends_nothing, world.metrics)
    scope = {"type": "http", "method": "POST", "path": "/v1/answer", "headers": []}
    await layer(scope, receive, left)
    assert shown(world, 'lethe_answers_total{result="aborted"}') == 1
