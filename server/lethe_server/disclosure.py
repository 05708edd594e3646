"""What a caller may be told: how many log-probabilities at each token, and answers at a strength of its choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers

from lethe_server.auth import Caller
from lethe_server.errors import FieldRefused

STRENGTH_HEADER = "X-Lethe-Strength"
COUNTS = ("logprobs", "top_logprobs", "prompt_logprobs")
CHOSEN = "logprob_token_ids"  # each id is one more log-probability
SWITCHED_BY = "top_logprobs"  # where this field exists, ``logprobs`` is a switch and counts nothing

_number: TypeAdapter[int] = TypeAdapter(int)  # reads "20" and 20.0 as vLLM's request models do


def check_logprobs(body: Mapping[str, Any], known: Set[str], caller: Caller) -> None:
    """Raises FieldRefused for more log-probabilities at a token than the caller may have.

    known: the fields of the request model that ``body`` is for. A negative count means the whole vocabulary to vLLM.
    """
    if caller.max_logprobs is None:
        return
    for field in COUNTS:
        if field == "logprobs" and SWITCHED_BY in known:
            continue
        count = _count(body.get(field))
        if count is not None and not 0 <= count <= caller.max_logprobs:
            _refuse(field, count, caller.max_logprobs)
    chosen = body.get(CHOSEN)
    if isinstance(chosen, list) and len(chosen) > caller.max_logprobs:
        _refuse(CHOSEN, f"{len(chosen)} ids", caller.max_logprobs)


def asked_strength(headers: Headers, caller: Caller) -> float | None:
    """The strength that the header asks for; None without it.

    Raises FieldRefused for a caller who may not choose, and for what is no number. The bounds are the module's.
    """
    sent = headers.getlist(STRENGTH_HEADER)
    if not sent:
        return None
    if not caller.may_measure:
        raise FieldRefused(STRENGTH_HEADER, sent[0][:40], "nothing: only keys for measuring may choose a strength")
    try:
        (strength,) = map(float, sent)
    except ValueError:
        strength = math.nan
    if not math.isfinite(strength):
        raise FieldRefused(STRENGTH_HEADER, ", ".join(sent)[:40], "one finite number, within the module's bounds")
    return strength


def _count(value: Any) -> int | None:
    """None for what the request model refuses."""
    try:
        return None if value is None else _number.validate_python(value)
    except ValidationError:
        return None


def _refuse(field: str, value: object, cap: int) -> NoReturn:
    raise FieldRefused(field, value, f"0 to {cap}, this key's bound on log-probabilities at a token")
