"""The paths of vLLM's server that are served, picked one by one out of its routers."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from http import HTTPStatus
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from vllm.entrypoints.openai.chat_completion.api_router import router as chat
from vllm.entrypoints.openai.completion.api_router import router as completion
from vllm.entrypoints.openai.models.api_router import router as models
from vllm.entrypoints.openai.responses.api_router import router as responses
from vllm.entrypoints.serve.tokenize.api_router import router as tokenize

from lethe_offsets.errors import LetheError
from lethe_server.errors import StartupFailed
from lethe_server.http_errors import error_body
from lethe_server.intake import Intake

SERVED = (
    (chat, "POST", "/v1/chat/completions"),
    (completion, "POST", "/v1/completions"),
    (responses, "POST", "/v1/responses"),
    (tokenize, "POST", "/tokenize"),
    (tokenize, "POST", "/detokenize"),
    (models, "GET", "/v1/models"),
)
log = logging.getLogger(__name__)


def served_paths() -> APIRouter:
    """A router with exactly the served paths. Raises StartupFailed when this vLLM lacks one."""
    router = APIRouter()
    for source, method, path in SERVED:
        route = _find(source, method, path)
        dependencies = list(route.dependencies)
        if method == "POST":
            dependencies.append(Depends(Intake(_request_models(route.endpoint))))
        router.add_api_route(
            path,
            _failing_visibly(route.endpoint),
            methods=[method],
            dependencies=dependencies,
            responses=route.responses,
            response_model=None,
        )
    return router


def _find(source: APIRouter, method: str, path: str) -> APIRoute:
    for route in source.routes:
        if isinstance(route, APIRoute) and route.path == path and method in route.methods:
            return route
    raise StartupFailed(f"this version of vLLM has no {method} {path}; see the versions in pyproject.toml")


def _request_models(endpoint: Callable[..., Any]) -> list[Any]:
    """The pydantic models that an endpoint's ``request`` may be."""
    hint = get_type_hints(endpoint)["request"]
    return list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]


def _failing_visibly(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """``endpoint`` whose stream ends with an error event when the engine fails under way.

    vLLM's chat and completion streams do so themselves; its responses stream would break off.
    """

    @functools.wraps(endpoint)
    async def call(*args: Any, **kwargs: Any) -> Any:
        response = await endpoint(*args, **kwargs)
        if isinstance(response, StreamingResponse):
            response.body_iterator = _with_error_event(response.body_iterator)
        return response

    return call


async def _with_error_event(stream: Any) -> AsyncIterator[Any]:
    async with aclosing(stream) as chunks:
        try:
            async for chunk in chunks:
                yield chunk
        except Exception as err:
            log.exception("a stream failed")
            text = str(err) if isinstance(err, LetheError) else "internal error; see the server's log"
            event = {"type": "error", **error_body(text, HTTPStatus.INTERNAL_SERVER_ERROR)}
            yield f"event: error\ndata: {json.dumps(event)}\n\n"
