"""A pydantic error as a domain error: the field, its value and what is accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lethe_offsets.errors import ModuleInvalid

Keys = Mapping[str, Sequence[str]]
UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
SHOWN = 80  # characters of a container's value


def invalid(error: ValidationError, where: str, keys: Keys | None = None) -> ModuleInvalid:
    """The first problem as a ModuleInvalid whose field begins with ``where``; its text names the other ones too.

    keys: the known keys of an object by its dotted path ("" for the outermost), shown for an unknown one.
    """
    first, *rest = error.errors(include_url=False)
    accepted = [_accepted(first, keys or {})]
    accepted += [f"also {_field(other, where)}: {_accepted(other, keys or {})}" for other in rest]
    return ModuleInvalid(_field(first, where), _value(first), "; ".join(accepted))


def _field(error: ErrorDetails, where: str) -> str:
    path = ".".join(str(part) for part in error["loc"])
    return f"{where}: {path}" if path else where


def _value(error: ErrorDetails) -> object:
    """What was given: None for a missing field, containers cut short."""
    value = None if error["type"] == "missing" else error["input"]
    return str(value)[:SHOWN] if isinstance(value, dict | list | tuple | bytes) else value


def _accepted(error: ErrorDetails, keys: Keys) -> str:
    if error["type"] in UNKNOWN_KEY:
        *parents, _ = error["loc"]
        return f"no such key; the keys are {', '.join(keys.get('.'.join(map(str, parents)), ()))}"
    return error["msg"].removeprefix("Value error, ")
