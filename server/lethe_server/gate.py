"""The layers around the application's paths: who may come in, and how much they may send."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lethe_offsets.errors import LetheError
from lethe_server.access_log import note_caller
from lethe_server.audit.auditor import Auditor
from lethe_server.auth import Keyring, is_administration
from lethe_server.errors import NotReady
from lethe_server.http_errors import error_response
from lethe_server.metrics import Metrics
from lethe_server.routing import RouteTable
from lethe_server.scope import RequestScope, entered

MODULE_HEADER = "x-lethe-module"


class Gate:
    """Admits a caller before anything of the body is read, and holds the request's scope until its answer has ended.

    An ASGI layer and not a dependency: FastAPI has ended dependencies before a stream was sent in some versions.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, routes: RouteTable, metrics: Metrics, audit: Auditor) -> None:
        self._app = app
        self._keyring = keyring
        self._routes = routes
        self._metrics = metrics
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = self._keyring.caller(Headers(scope=scope).get("authorization"))
        note_caller(scope, caller, None)
        try:
            self._keyring.admit(scope["path"], caller)
        except LetheError as err:
            if is_administration(scope["path"]):
                await self._audit.refused(caller, scope["method"], scope["path"])
            await error_response(err)(scope, receive, send)
            return
        request = RequestScope(caller, self._routes)
        note_caller(scope, caller, request)
        try:
            with entered(request):
                await self._app(scope, receive, _naming_module(request, send))
        finally:
            self._metrics.count_request(request)


def _naming_module(request: RequestScope, send: Send) -> Send:
    """``send`` that adds the resident's reference to an admin's answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start" and request.caller.may_measure and request.resident:
            MutableHeaders(scope=message)[MODULE_HEADER] = request.resident.ref
        await send(message)

    return sending


class BodyLimit:
    """Refuses bodies of more than ``max_bytes``, whether their length is announced or not."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            await error_response(self._too_large())(scope, receive, send)
            return
        received = 0

        async def receiving() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._too_large()  # FastAPI lets an HTTPException through while it reads a body
            return message

        await self._app(scope, receiving, send)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the body is larger than {self._max_bytes} bytes")


class CutOff:
    """The outermost layer of a server that ends: a request that outlasts the grace period is told so, where it can be.

    uvicorn cancels such requests, and would answer in plain text and log each one's stack.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            if not started:
                await error_response(NotReady("the server ends and could not wait any longer"))(scope, receive, send)
