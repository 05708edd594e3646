"""Errors as HTTP: the one table of statuses, and answers in OpenAI's shape."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lethe_offsets import errors as offsets
from lethe_server import errors as server
from lethe_server.engine.probe import ProbeFailed

STATUS: dict[type[Exception], HTTPStatus] = {  # the nearest base of an error decides
    offsets.LetheError: HTTPStatus.INTERNAL_SERVER_ERROR,
    offsets.InvalidInput: HTTPStatus.BAD_REQUEST,
    offsets.ModuleInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    offsets.ModuleIncompatible: HTTPStatus.UNPROCESSABLE_ENTITY,
    offsets.SourceForbidden: HTTPStatus.FORBIDDEN,
    offsets.ModuleNotFound: HTTPStatus.NOT_FOUND,
    ProbeFailed: HTTPStatus.UNPROCESSABLE_ENTITY,
    server.FieldRefused: HTTPStatus.BAD_REQUEST,
    server.AuthenticationNeeded: HTTPStatus.UNAUTHORIZED,
    server.PermissionDenied: HTTPStatus.FORBIDDEN,
    server.ModelNotFound: HTTPStatus.NOT_FOUND,
    server.ModuleBusy: HTTPStatus.CONFLICT,
    server.DrainTimeout: HTTPStatus.CONFLICT,
    server.SourceUnavailable: HTTPStatus.BAD_GATEWAY,
    server.EngineFull: HTTPStatus.SERVICE_UNAVAILABLE,
    server.StateConflict: HTTPStatus.PRECONDITION_FAILED,
    server.StateInvalid: HTTPStatus.SERVICE_UNAVAILABLE,
    server.StateUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    server.AuditUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    server.NotRecorded: HTTPStatus.NOT_FOUND,
    server.GenerationFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
    server.UnroutedRequest: HTTPStatus.INTERNAL_SERVER_ERROR,
    server.NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    server.EngineDied: HTTPStatus.SERVICE_UNAVAILABLE,
}
TYPES = {  # OpenAI's and vLLM's names of these classes of errors
    HTTPStatus.BAD_REQUEST: "BadRequestError",
    HTTPStatus.UNAUTHORIZED: "AuthenticationError",
    HTTPStatus.FORBIDDEN: "PermissionDeniedError",
    HTTPStatus.NOT_FOUND: "NotFoundError",
    HTTPStatus.METHOD_NOT_ALLOWED: "MethodNotAllowedError",
    HTTPStatus.CONFLICT: "ConflictError",
    HTTPStatus.PRECONDITION_FAILED: "PreconditionFailedError",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RequestTooLargeError",
    HTTPStatus.UNPROCESSABLE_ENTITY: "UnprocessableEntityError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableError",
    HTTPStatus.BAD_GATEWAY: "BadGatewayError",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalServerError",
}
RETRY_AFTER_S = "5"
MAX_SHOWN = 5  # of the errors of one body
PYDANTIC_BRANCH = re.compile(r"[\[({]|^(str|int|float|bool|none|dict|list|function-\w+)$")


def status_of(error: Exception) -> HTTPStatus:
    """The status of an error, by its nearest base in the table; 500 for one that has none."""
    if isinstance(error, HTTPException):
        return HTTPStatus(error.status_code)
    found = (STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)
    return next(found, HTTPStatus.INTERNAL_SERVER_ERROR)


def error_body(message: str, status: HTTPStatus, param: str | None = None) -> dict[str, object]:
    """An error in OpenAI's shape; ``code`` is the status, as in vLLM's own errors."""
    kind = TYPES.get(status, status.phrase)
    return {"error": {"message": message, "type": kind, "param": param, "code": status.value}}


def error_response(error: Exception) -> JSONResponse:
    """The answer to a Lethe or HTTP error. The text of any other error stays in the log."""
    status = status_of(error)
    headers: dict[str, str] = {}
    param = None
    if isinstance(error, HTTPException):
        message, headers = str(error.detail), dict(error.headers or {})
    elif isinstance(error, offsets.LetheError):
        message = str(error)
        param = getattr(error, "field", None)
    else:
        message = "internal error; see the server's log"
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = RETRY_AFTER_S
    if status is HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error_body(message, status, param), status, headers)


def describe(errors: Sequence[Any]) -> tuple[str, str | None]:
    """A message for the errors of pydantic, and the field of the first.

    Short whatever the body was: values are left out, and a union's many branches are told as one.
    """
    found: dict[str, str] = {}
    for error in errors:
        if isinstance(error, str):  # vLLM refuses media types so
            return error, None
        place, text = ".".join(_path(error["loc"])), error["msg"].removeprefix("Value error, ")
        if error["type"] == "json_invalid":
            return f"malformed JSON at character {error['loc'][-1]}: {error['ctx']['error']}", None
        found.setdefault(place, text)
    shown = [f"{place or 'body'}: {text}" for place, text in list(found.items())[:MAX_SHOWN]]
    return "; ".join(shown), next(iter(found), None) or None


def _path(location: Sequence[Any]) -> list[str]:
    """The fields and positions of an error's place, without "body" and pydantic's names for branches of a union."""
    parts = [str(part) for part in location[1:]]
    return [part for part in parts if not PYDANTIC_BRANCH.search(part)]


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    message, param = describe(error.errors() if isinstance(error, RequestValidationError) else [])
    return JSONResponse(error_body(message, HTTPStatus.BAD_REQUEST, param), HTTPStatus.BAD_REQUEST)


async def _answer(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, HTTPException) and error.status_code in (404, 405):  # Starlette says only "Not Found"
        text = f"{error.detail}: {request.method} {request.url.path}"
        return error_response(HTTPException(error.status_code, text, error.headers))
    return error_response(error)


def install(app: FastAPI) -> None:
    """Answer Lethe's, the framework's and unforeseen errors in OpenAI's shape."""
    app.add_exception_handler(offsets.LetheError, _answer)
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(Exception, _answer)
