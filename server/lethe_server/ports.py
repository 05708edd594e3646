"""A port of its own for administration, which a network can keep inside: networks know ports, not paths."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from lethe_server.auth import METRICS_PATH, is_administration
from lethe_server.http_errors import error_response

CONSOLE_PATH = "/console"


def is_inside(path: str) -> bool:
    """Whether a path is for those who run the server: administration, its console, the metrics."""
    console = path == CONSOLE_PATH or path.startswith(f"{CONSOLE_PATH}/")
    return console or path == METRICS_PATH or is_administration(path)


class AdminPort:
    """The outermost layer of a server with such a port: elsewhere these paths don't exist. There all paths do."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The address that the connection came in by, which uvicorn asks of the socket; no header has a say in it.
        if scope["type"] == "http" and is_inside(scope["path"]) and (scope["server"] or ("", None))[1] != self._port:
            missing = HTTPException(404, f"Not Found: {scope['method']} {scope['path']}")
            await error_response(missing)(scope, receive, send)
            return
        await self._app(scope, receive, send)
