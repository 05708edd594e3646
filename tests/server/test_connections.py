"""Connections whose clients are slow, broken or silent: real sockets, a small application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from lethe_server import connections, run
from lethe_server.connections import MAX_HEAD_BYTES, BoundedConnection
from lethe_server.gate import CutOff
from lethe_server.run import bound_socket

POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
GRACE_S = 30.0  # in which what must happen has happened


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.2)
    monkeypatch.setattr(connections, "BODY_S", 0.2)
    monkeypatch.setattr(run, "STALLED_S", 1.0)


class Application:
    """Reads a body and says how long it was. pause_s: before it reads. refuses: says so at once, and reads nothing.

    endless: it answers without an end. asked: how often it was. left: clients that went before it was done.
    """

    def __init__(self) -> None:
        self.pause_s = 0.0
        self.endless = False
        self.refuses = False
        self.asked = 0
        self.left = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await asyncio.sleep(self.pause_s)
        if self.endless:
            await self.flood(receive, send)
            return
        length, more = 0, not self.refuses
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            length, more = length + len(message["body"]), message["more_body"]
        body = str(length).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def flood(self, receive: Any, send: Any) -> None:
        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left += 1
            sending.cancel()

        async def flow() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": bytes(2**16), "more_body": True})

        sending = asyncio.create_task(flow())
        await asyncio.gather(sending, watch(), return_exceptions=True)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, content: bytes) -> None:
        self.writer.write(content)

    async def answer(self) -> tuple[int, bytes]:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), GRACE_S)
        (length,) = (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def refused(self) -> dict[str, Any]:
        """The error of the answer, after which the connection was closed."""
        status, body = await self.answer()
        assert await self.rest() == b""
        error: dict[str, Any] = json.loads(body)["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["code"] == status
        return error

    async def rest(self) -> bytes:
        """What still comes until the server closes the connection."""
        return await asyncio.wait_for(self.reader.read(), GRACE_S)


@pytest.fixture
async def app() -> Application:
    return Application()


@pytest.fixture
async def server(app: Application) -> AsyncIterator[run._Server]:
    with bound_socket("127.0.0.1", 0) as listening:
        config = uvicorn.Config(
            CutOff(app),
            port=listening.getsockname()[1],
            http=BoundedConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        server = run._Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield server
        server.stop()
        await serving


@pytest.fixture
def connect(server: run._Server) -> Callable[[], Any]:
    @asynccontextmanager
    async def connected() -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.config.port)
        yield Client(reader, writer)
        writer.close()

    return connected


async def test_requests_one_after_the_other(connect: Any) -> None:
    async with connect() as client:
        for length in (0, 3, 200_000):
            client.send(POST % length + bytes(length))
            assert await client.answer() == (200, str(length).encode())


async def test_who_never_asks_is_left_without_a_word(connect: Any) -> None:
    async with connect() as client:
        assert await client.rest() == b""


async def test_blank_lines_are_no_request(connect: Any) -> None:
    async with connect() as client:
        client.send(POST % 2 + b"ok")
        assert await client.answer() == (200, b"2")
        client.send(b"\r\n")
        assert await client.rest() == b""


async def test_a_head_without_an_end(connect: Any) -> None:
    async with connect() as client:
        client.send(b"POST / HTTP/1.1\r\nhost: x\r\n")
        assert (await client.refused())["code"] == 408


async def test_a_body_without_an_end(connect: Any, app: Application) -> None:
    async with connect() as client:
        client.send(POST % 5 + b"ha")
        assert (await client.refused())["code"] == 408
    async with asyncio.timeout(GRACE_S):
        while not app.left:
            await asyncio.sleep(0.01)


async def test_a_head_that_is_too_large(connect: Any) -> None:
    async with connect() as client:
        client.send(b"POST / HTTP/1.1\r\nhost: x\r\nx-much: " + b"x" * (MAX_HEAD_BYTES + 1))
        assert str(MAX_HEAD_BYTES) in (await client.refused())["message"]


async def test_what_is_no_request_at_all(connect: Any) -> None:
    async with connect() as client:
        client.send(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await client.refused())["code"] == 400


async def test_a_slow_answer_is_waited_for(connect: Any, app: Application) -> None:
    app.pause_s = 0.6
    async with connect() as client:
        client.send(POST % 2 + b"ok\r\n")  # some clients end a body with a line
        assert await client.answer() == (200, b"2")


async def test_a_body_that_nobody_reads_is_not_the_client_s_fault(connect: Any, app: Application) -> None:
    app.pause_s = 0.6
    async with connect() as client:
        client.send(POST % 10**6 + bytes(10**6))
        assert await client.answer() == (200, b"1000000")


async def test_who_sends_a_refused_body_to_its_end_is_left_too(connect: Any, app: Application) -> None:
    app.refuses = True
    async with connect() as client:
        client.send(POST % 5 + b"ha")
        assert await client.answer() == (200, b"0")
        client.send(b"llo")
        assert await client.rest() == b""


async def test_who_takes_nothing_is_left(connect: Any, app: Application) -> None:
    app.endless = True
    async with connect() as client:
        client.writer.transport.pause_reading()
        client.send(POST % 0)
        async with asyncio.timeout(GRACE_S):
            while not app.left:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("streams", [False, True])
async def test_who_outlasts_the_grace_period_is_told_so(
    connect: Any, app: Application, server: run._Server, caplog: pytest.LogCaptureFixture, streams: bool
) -> None:
    app.endless, app.pause_s = streams, 0 if streams else 60
    async with connect() as client:
        client.send(POST % 0)
        if streams:
            assert await client.reader.readline() == b"HTTP/1.1 200 OK\r\n"
        while not app.asked:
            await asyncio.sleep(0.01)
        server.stop()
        if streams:
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
        else:
            assert (await client.refused())["code"] == 503
    assert "Traceback" not in caplog.text
