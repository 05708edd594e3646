"""What every command of the operator takes, and the exit codes that scripts read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated

import httpx
import typer

from lethe_offsets.errors import LetheError
from lethe_server.operator.client import AdminClient, Unreachable

REFUSED, USAGE, UNREACHABLE = 1, 2, 3

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 600.0

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A public name.")]
Url = Annotated[
    str | None, typer.Option("--url", envvar="LETHE_URL", help=f"The running server. (default: {DEFAULT_URL})")
]
AdminKey = Annotated[
    str | None,
    typer.Option(envvar="LETHE_ADMIN_KEY", help="A key for administration; others see it unless it is a variable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until requests on what answered before have ended.")]
Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long --wait waits.")]
Canary = Annotated[
    float | None,
    typer.Option(min=0, max=100, metavar="PERCENT", help="Only this share of clients, the same ones each time."),
]
Shadow = Annotated[
    float | None,
    typer.Option(min=0, max=100, metavar="PERCENT", help="Only compare, on this share of requests; 0 stops it."),
]


@contextmanager
def admin(url: str | None, key: str | None) -> Iterator[AdminClient]:
    """A client within the block, whose errors end the command: 1 refused, 2 usage, 3 unreachable."""
    url = url or DEFAULT_URL
    if not _is_url(url):
        raise typer.BadParameter(f"got {url!r}; accepted: http:// or https:// and a host", param_hint="--url")
    if not key or not key.isascii() or not key.isprintable():
        raise typer.BadParameter("needed, in printable ASCII; or set LETHE_ADMIN_KEY", param_hint="--admin-key")
    try:
        with AdminClient(url, key) as client:
            yield client
    except Unreachable as err:
        _end(err, UNREACHABLE)
    except LetheError as err:
        _end(err, REFUSED)


def admin_of(context: typer.Context, url: str | None, key: str | None) -> AbstractContextManager[AdminClient]:
    """As ``admin``, for a command within another: what the inner one was not given, the outer one was."""
    outer_url, outer_key = context.obj
    return admin(url or outer_url, key or outer_key)


def _is_url(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)


def _end(error: LetheError, code: int) -> None:
    print(f"lethe: {error}", file=sys.stderr)
    raise typer.Exit(code)
