"""A client's connection, bounded in what it holds and in how long it may take to ask.

uvicorn with httptools bounds neither (0.54): a request that never ends would keep its connection for good, and a head
without an end would grow in memory.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from lethe_server.http_errors import error_body

HEAD_S = 60.0  # from the connection's beginning, or what follows an answer, to the end of a request's head
BODY_S = 300.0  # from there to the end of its body
MAX_HEAD_BYTES = 64 * 2**10  # and what comes in one read


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection. A request that takes too long, or has too large a head, is refused and the client left."""

    _waiting: asyncio.TimerHandle | None = None
    _in_head = False
    _paused = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None and self._idle:
            self._wait(HEAD_S)
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                text = f"the head of the request is larger than {MAX_HEAD_BYTES} bytes"
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._wait(HEAD_S)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._wait(BODY_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._wait(HEAD_S if self.cycle.response_complete else None)  # uvicorn waits only where the answer comes last
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _wait(self, seconds: float | None) -> None:
        """For what is to come next; None: for nothing."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = None if seconds is None else self.loop.call_later(seconds, self._waited, seconds)

    def _waited(self, seconds: float) -> None:
        paused_before, self._paused = self._paused, self.flow.read_paused
        if paused_before or self._paused:  # the client waits for us, or did until just now
            self._wait(seconds)
        elif self._idle and not self._in_head:  # what is said now could be taken for the next answer
            self.transport.close()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the request was not there after {seconds:g} s")

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Say why, unless an answer is under way, and close the connection."""
        self._in_head = False
        self._wait(None)
        if self.transport.is_closing():
            return
        if self._idle or not self.cycle.response_started:
            body = json.dumps(error_body(message, status)).encode()
            lines = (b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close")
            self.transport.write(STATUS_LINE[status] + b"\r\n".join((*lines, b"", body)))
        self.transport.close()
