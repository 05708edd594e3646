"""The layers around the routes and the shape of every error, over a small application without an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from fakes import FakeClient, answer
from lethe_offsets import errors as offsets
from lethe_server import errors
from lethe_server.door import Door
from lethe_server.engine.probe import ProbeFailed
from lethe_server.intake import Intake
from lethe_server.residents import Resident
from lethe_server.scope import current
from worlds import ADMIN, CLIENT, World, client_of, declared, ref


class Ask(BaseModel):
    model: str
    prompt: str | list[int] = ""
    stream: bool = False


class Chat(BaseModel):
    model: str
    messages: list[str]


class Asked:
    """An application with module ``a`` on a route, and a client whose answers a test chooses."""

    def __init__(self, world: Asked) -> None:
        self.world = world
        self.engine = FakeClient(answer(None), answer())
        self.raises: Exception | None = None
        self.app = world.application(max_body_bytes=1000)
        self.app.post("/v1/ask", dependencies=[Depends(Intake([Ask, Chat]))])(self.ask)
        self.app.post("/v1/chat", dependencies=[Depends(Intake([Chat]))])(self.chat)
        self.app.get("/admin/thing")(self.admin)
        self.http = client_of(self.app)

    @property
    def held(self) -> Resident:
        return self.world.resident("a")

    def stream(self) -> Any:
        scope = current()
        assert scope.resident is not None
        assert scope.resident.loaded is not None
        request = scope.resident.loaded.request(scope.model or "")
        return Door(self.engine).generate("p", None, "1", lora_request=request)

    async def ask(self, body: Ask) -> Any:
        if self.raises is not None:
            raise self.raises

        async def chunks() -> AsyncIterator[str]:
            async for _ in self.stream():
                yield f"{self.held.num_requests};"

        if body.stream:
            return StreamingResponse(chunks())
        return [chunk async for chunk in chunks()]

    async def chat(self, body: Chat) -> str:
        return "ok"

    async def admin(self) -> str:
        return "ok"


@pytest.fixture
async def world() -> AsyncIterator[Asked]:
    made = World()
    await made.start(declared("ab", **{"org/public": "a"}))
    asked = Asked(made)
    async with asked.http:
        yield asked


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["code"] == status
    assert body["error"]["message"]
    error: dict[str, Any] = body["error"]
    return error


async def test_the_answer_of_an_admin_names_the_module(world: Asked) -> None:
    for stream in (False, True):
        body = {"model": "org/public", "stream": stream}
        named = await world.http.post("/v1/ask", json=body, headers=ADMIN)
        assert named.headers["x-lethe-module"] == ref("a")
        assert "x-lethe-module" not in (await world.http.post("/v1/ask", json=body, headers=CLIENT)).headers


async def test_the_module_is_held_until_the_stream_has_ended(world: Asked) -> None:
    response = await world.http.post("/v1/ask", json={"model": "org/public", "stream": True}, headers=CLIENT)
    assert response.text == "1;1;"
    held = world.held
    assert held.num_requests == 0
    assert await held.drained(0)


async def test_keys_are_asked_for_before_the_body_is_read(world: Asked) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}):
        response = await world.http.post("/v1/ask", content=b"{", headers=headers)
        assert error_of(response, 401)["type"] == "AuthenticationError"
        assert response.headers["www-authenticate"] == "Bearer"
        error_of(await world.http.get("/admin/thing", headers=headers), 401)
    assert error_of(await world.http.get("/admin/thing", headers=CLIENT), 403)["type"] == "PermissionDeniedError"
    assert (await world.http.get("/admin/thing", headers=ADMIN)).status_code == 200


async def test_paths_and_methods_that_do_not_exist(world: Asked) -> None:
    assert "GET /nothing" in error_of(await world.http.get("/nothing"), 404)["message"]
    error_of(await world.http.post("/v1/ask/", headers=CLIENT), 404)
    response = await world.http.get("/v1/ask", headers=CLIENT)
    error_of(response, 405)
    assert response.headers["allow"] == "POST"


async def chunked() -> AsyncIterator[bytes]:
    for _ in range(11):
        yield b"x" * 100


@pytest.mark.parametrize("content", [b"x" * 1001, None])
async def test_a_body_that_is_too_large(world: Asked, content: bytes | None) -> None:
    response = await world.http.post(
        "/v1/ask", content=content or chunked(), headers={**CLIENT, "content-type": "application/json"}
    )
    assert error_of(response, 413)["type"] == "RequestTooLargeError"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "malformed JSON at character 1"),
        (b"", "body: Field required"),
        (b"[]", "body: Input should be"),
        (b'{"model": "org/public", "stream": "perhaps"}', "stream: Input should be a valid boolean"),
        (b'{"model": "org/public", "prompt": {}}', "prompt: Input should be a valid string"),
        (b'{"model": "org/public", "prompt": [NaN]}', "finite numbers"),
        (b'{"model": "org/public", "prompt": [1e999]}', "finite numbers"),
        (b'{"model": "org/public", "promt": ""}', "did you mean 'prompt'"),
        (b'{"model": "org/public", "prompt": "", "messages": []}', "messages"),
        (b'{"prompt": ""}', "model: got None"),
        (b'{"model": 5}', "model: got 5"),
    ],
)
async def test_bad_bodies(world: Asked, content: bytes, said: str) -> None:
    response = await world.http.post("/v1/ask", content=content, headers={**CLIENT, "content-type": "application/json"})
    error = error_of(response, 400)
    assert said in error["message"]
    assert error["type"] == "BadRequestError"


async def test_text_that_looks_like_numbers_json_lacks(world: Asked) -> None:
    body = {"model": "org/public", "prompt": "NaN and Infinity and 1e999"}
    assert (await world.http.post("/v1/ask", json=body, headers=CLIENT)).status_code == 200


@pytest.mark.parametrize("model", ["a", "base", "other", "a@sha256:00000000"])
async def test_a_client_can_not_choose_anything_but_a_public_name(world: Asked, model: str) -> None:
    error = error_of(await world.http.post("/v1/ask", json={"model": model}, headers=CLIENT), 404)
    assert error["param"] == "model"
    assert "sha256" not in error["message"].replace(model, "")


async def test_an_error_of_the_engine_is_a_500_and_counted(world: Asked) -> None:
    world.engine.answers = (answer("error"),)
    error_of(await world.http.post("/v1/ask", json={"model": "org/public"}, headers=CLIENT), 500)
    assert 'lethe_requests_total{module="a",outcome="error"} 1.0' in world.world.shown()


async def test_the_text_of_an_unforeseen_error_stays_inside(world: Asked) -> None:
    world.raises = RuntimeError("a secret path")
    error = error_of(await world.http.post("/v1/ask", json={"model": "org/public"}, headers=CLIENT), 500)
    assert "secret" not in error["message"]


@pytest.mark.parametrize(
    ("raised", "status", "param"),
    [
        (offsets.LetheError("x"), 500, None),
        (offsets.InvalidInput("f", 1, "2"), 400, "f"),
        (offsets.ModuleInvalid("f", 1, "2"), 422, "f"),
        (offsets.ModuleCorrupt("f", 1, "2"), 422, "f"),
        (offsets.ModuleIncompatible("f", 1, "2"), 422, "f"),
        (offsets.SourceForbidden("f", 1, "2"), 403, "f"),
        (offsets.ModuleNotFound("r", []), 404, None),
        (ProbeFailed("x"), 422, None),
        (errors.FieldRefused("f", 1, "2"), 400, "f"),
        (errors.AuthenticationNeeded("x"), 401, None),
        (errors.PermissionDenied("x"), 403, None),
        (errors.ModelNotFound("m", []), 404, "model"),
        (errors.ModuleBusy("x"), 409, None),
        (errors.DrainTimeout("x"), 409, None),
        (errors.GenerationFailed("x"), 500, None),
        (errors.UnroutedRequest("x"), 500, None),
        (errors.NotReady("x"), 503, None),
        (errors.EngineFull("x"), 503, None),
        (errors.StateConflict("x"), 412, None),
        (errors.StateInvalid("f", "x"), 503, None),
        (errors.StateUnavailable("x"), 503, None),
        (errors.AuditUnavailable("x"), 503, None),
        (errors.NotRecorded(), 404, None),
        (errors.SourceUnavailable("s", "x"), 502, None),
    ],
)
async def test_the_table_of_statuses(world: Asked, raised: Exception, status: int, param: str | None) -> None:
    world.raises = raised
    error = error_of(await world.http.post("/v1/ask", json={"model": "org/public"}, headers=CLIENT), status)
    assert error["message"] == str(raised)
    assert error["param"] == param
    assert world.held.idle


@pytest.mark.parametrize("raised", [errors.EngineFull("x"), errors.NotReady("x"), errors.StateUnavailable("x")])
async def test_who_may_try_again_is_told_when(world: Asked, raised: Exception) -> None:
    world.raises = raised
    response = await world.http.post("/v1/ask", json={"model": "org/public"}, headers=CLIENT)
    assert int(response.headers["retry-after"]) > 0


async def test_metrics_show_what_is_and_nothing_a_request_said(world: Asked) -> None:
    await world.http.post("/v1/ask", json={"model": "org/public"}, headers=CLIENT)
    await world.http.post("/v1/ask", json={"model": "made-up"}, headers=CLIENT)
    await world.http.post("/v1/chat", json={"model": "org/public", "messages": []}, headers=CLIENT)
    shown = world.world.shown()
    assert f'lethe_module_info{{digest="{ref("a").removeprefix("a@")}",module="a"}} 1.0' in shown
    assert 'lethe_route_info{model="org/public",module="a"} 1.0' in shown
    assert 'lethe_inflight_requests{module="a"} 0.0' in shown
    assert 'lethe_inflight_requests{module="none"} 0.0' in shown
    assert 'lethe_requests_total{module="a",outcome="finished"} 1.0' in shown
    assert "made-up" not in shown
    assert "lethe_module_load_seconds_count 1.0" in shown
