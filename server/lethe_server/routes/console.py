"""The console's files. They say nothing about this server and need no key; what they show comes from the admin API."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).parents[1] / "console"
INDEX = "index.html"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@router.get("/console")
def show_console() -> Response:
    return _file(INDEX)


@router.get("/console/")
def leave_folder() -> Response:
    """The page names its files relative to ``/console``, so that it works below any prefix."""
    return RedirectResponse("../console", 308, HEADERS)


@router.get("/console/{name}")
def show_file(name: str) -> Response:
    return _file(name)


def _file(name: str) -> Response:
    if name not in {path.name for path in FOLDER.iterdir()} or Path(name).suffix not in TYPES:
        raise HTTPException(404, "Not Found")
    return Response((FOLDER / name).read_bytes(), headers=HEADERS, media_type=TYPES[Path(name).suffix])
