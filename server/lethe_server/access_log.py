"""The id of each request, and its line in the log once its answer has ended."""

from __future__ import annotations

import logging
import re
import time
import uuid
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lethe_server.auth import Caller, is_inference
from lethe_server.http_errors import error_response
from lethe_server.metrics import Metrics
from lethe_server.scope import RequestScope

ID_HEADER = "x-request-id"
USABLE_ID = re.compile(r"[A-Za-z0-9._:+=@-]{1,128}")  # vLLM makes its own ids, of log lines and traces, from it
PROBES = ("/health", "/ready", "/metrics", "/admin/live")  # asked every few seconds; their lines are for debugging
MAX_PATH = 256
_EXCHANGE = "lethe.exchange"  # key of an ASGI scope
log = logging.getLogger(__name__)


@dataclass
class Exchange:
    """One request and its answer. request: from the gate on. status: from the answer's first byte on."""

    id: str
    method: str
    path: str
    began: float = field(default_factory=time.perf_counter)
    caller: Caller | None = None
    request: RequestScope | None = None
    status: int | None = None

    def fields(self) -> dict[str, object]:
        """For the log: who, what, how long. No text of a prompt or an answer, and no query string."""
        shown: dict[str, object] = {
            "request_id": self.id,
            "method": self.method,
            "path": quote(self.path[:MAX_PATH]),
            "status": self.status,
            "duration_s": round(time.perf_counter() - self.began, 4),
            "key": None if self.caller is None else self.caller.name,
        }
        request = self.request
        if request is not None and request.resident is not None:
            shown |= {
                "model": request.model,
                "module": request.resident.ref,
                "outcome": None if request.outcome is None else request.outcome.value,
                "prompt_tokens": request.prompt_tokens,
                "output_tokens": request.output_tokens,
            }
        return shown


def note_caller(scope: Scope, caller: Caller, request: RequestScope | None) -> None:
    """Tell whose request an ASGI scope is."""
    exchange = scope.get(_EXCHANGE)
    if isinstance(exchange, Exchange):
        exchange.caller, exchange.request = caller, request


class AccessLog:
    """The outermost layer. Every answer carries ``x-request-id``: the client's, where it is usable, or one of ours."""

    def __init__(self, app: ASGIApp, metrics: Metrics, lines: bool = True) -> None:
        self._app = app
        self._metrics = metrics
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(ID_HEADER, "")
        request_id = sent if USABLE_ID.fullmatch(sent) else uuid.uuid4().hex
        exchange = Exchange(request_id, scope["method"], scope["path"])
        headers = [(name, value) for name, value in scope["headers"] if name != ID_HEADER.encode()]
        inner = {**scope, "headers": [*headers, (ID_HEADER.encode(), request_id.encode())], _EXCHANGE: exchange}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = request_id
            await send(message)

        try:
            await self._app(inner, receive, sending)
        except Exception as err:  # the framework answers it outside of every layer
            if exchange.status is None:
                await error_response(err)(inner, receive, sending)
            raise
        finally:
            self._ended(exchange)

    def _ended(self, exchange: Exchange) -> None:
        if is_inference(exchange.path):
            request = exchange.request
            self._metrics.count_answer(exchange.status, None if request is None else request.outcome)
        if not self._lines:
            return
        fields = exchange.fields()
        shown = (f"{name}={value}" for name, value in fields.items() if name not in ("method", "path", "status"))
        quiet = exchange.path in PROBES and exchange.status == 200
        line = f"{exchange.method} {fields['path']} {exchange.status} {' '.join(shown)}"
        log.log(logging.DEBUG if quiet else logging.INFO, line, extra={"fields": fields})
