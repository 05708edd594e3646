"""Servers that are not as they should be: real ones, of a few lines each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from lethe_offsets.errors import InvalidInput, LetheError
from lethe_offsets.recording import endpoint
from lethe_offsets.recording.endpoint import Endpoint


@contextmanager
def answering(replies: Sequence[tuple[int, Any]]) -> Iterator[str]:
    """A server that gives these replies, one after the other, the last of them for ever."""
    left = list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = left.pop(0) if len(left) > 1 else left[0]
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/"
        finally:
            server.shutdown()
            thread.join()


def ask(url: str) -> list[Any]:
    async def run() -> list[Any]:
        async with Endpoint(url, "large") as asked:
            return await asked.prompt_logprobs([1, 2], 1)

    return asyncio.run(run())


def completion(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"text": "", **fields}]}


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, completion(), "returns prompt_logprobs, as vLLM does; it returned none"),
        (200, completion(prompt_logprobs=None), "it returned none"),
        (200, {"object": "something else"}, "it returned none"),
        (200, completion(prompt_logprobs=[None, {}, {}]), "2 of them came back as 3"),
        (400, {"error": {"message": "unknown field prompt_logprobs"}}, "400, unknown field prompt_logprobs"),
        (404, {"detail": "Not Found"}, "address of an OpenAI-compatible server: 404"),
    ],
)
def test_a_server_without_prompt_logprobs_is_refused(status: int, body: Any, message: str) -> None:
    with answering([(status, body)]) as url, pytest.raises(InvalidInput, match=message) as raised:
        ask(url)
    assert (raised.value.field, raised.value.value) == ("url", url.rstrip("/"))


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.001)
    entries = [None, {"2": {"logprob": -0.5}}]
    busy = [(429, {"error": {"message": "slow down"}}), (503, {})]
    with answering([*busy, (200, completion(prompt_logprobs=entries))]) as url:
        assert ask(url) == entries


def test_a_server_that_stays_busy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.001)
    with answering([(503, {"message": "overloaded"})]) as url, pytest.raises(LetheError, match="503, overloaded"):
        ask(url)
