from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from lethe_server.engine import paths
from lethe_server.errors import GenerationFailed, StartupFailed


def test_only_the_listed_paths_are_taken_from_vllm() -> None:
    served = {(method, route.path) for route in paths.served_paths().routes for method in route.methods}  # type: ignore[attr-defined]
    assert served == {(method, path) for _, method, path in paths.SERVED}


def test_a_vllm_without_one_of_the_paths_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "SERVED", ((APIRouter(), "POST", "/v1/completions"),))
    with pytest.raises(StartupFailed, match="POST /v1/completions"):
        paths.served_paths()


@pytest.mark.parametrize(
    ("error", "said"), [(GenerationFailed("ended with an error"), "ended with"), (KeyError("inside"), "log")]
)
async def test_a_stream_that_fails_ends_with_an_error_event(error: Exception, said: str) -> None:
    async def stream() -> AsyncIterator[str]:
        yield "data: first\n\n"
        raise error

    async def endpoint() -> Any:
        return StreamingResponse(stream())

    response = await paths._failing_visibly(endpoint)()
    first, last = [chunk async for chunk in response.body_iterator]
    assert first == "data: first\n\n"
    assert last.startswith("event: error\ndata: ")
    event = json.loads(last.removeprefix("event: error\ndata: "))
    assert event["type"] == "error"
    assert said in event["error"]["message"]
    assert "inside" not in last
