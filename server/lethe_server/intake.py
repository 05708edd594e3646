"""The first look at an inference request's body: only fields that are honoured, and the route of its model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import Headers

from lethe_server.disclosure import asked_strength, check_logprobs
from lethe_server.errors import FieldRefused
from lethe_server.fields import check_fields
from lethe_server.scope import current

CONVERSATION_HEADER = "x-conversation-id"
_MAYBE_NOT_FINITE = re.compile(rb"NaN|Infinity|[eE]\+?[0-9]{3}")


class Intake:
    """A FastAPI dependency of one path. requests: the request models of that path, one of which the body must fit."""

    def __init__(self, requests: Sequence[type[BaseModel]]) -> None:
        self._known = [_names(request) for request in requests]

    async def __call__(self, request: Request) -> None:
        """Route the request. Raises FieldRefused, and as ``RequestScope.pin``."""
        raw = await request.body()
        body = await request.json() if raw else None
        if not isinstance(body, dict):
            return  # the request model refuses it
        _check_numbers(raw)
        known = max(self._known, key=lambda known: len(known & body.keys()))
        check_fields(body, known)
        check_logprobs(body, known, current().caller)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise FieldRefused("model", model, "the name of a model; GET /v1/models lists them")
        scope = current()
        strength = asked_strength(request.headers, scope.caller)
        await scope.pin(model, _sticky_key(body, request.headers), strength)


def _sticky_key(body: Mapping[str, Any], headers: Headers) -> str | None:
    """What keeps a client on one of a route's targets: who it says its user is, else which conversation it is."""
    user = body.get("user")
    return user if isinstance(user, str) and user else headers.get(CONVERSATION_HEADER)


def _names(request: type[BaseModel]) -> set[str]:
    fields = request.model_fields
    return {*fields, *(field.alias for field in fields.values() if field.alias)}


def _check_numbers(body: bytes) -> None:
    """Raises FieldRefused for a number that JSON doesn't have; Python's parser lets it through to the sampler."""
    if _MAYBE_NOT_FINITE.search(body):
        json.loads(body, parse_constant=_refuse, parse_float=_finite)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _refuse(text: Any) -> NoReturn:
    raise FieldRefused("body", text, "finite numbers")
