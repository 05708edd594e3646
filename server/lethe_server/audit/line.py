"""One line of the audit log, and the hash that chains it to the one before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

GENESIS = f"sha256:{hashlib.sha256(b'lethe audit log, format 1').hexdigest()}"
RECOVER = "recover"  # action of the line after one that was cut off


class Line(BaseModel):
    """Who did what to which subject, with which modules, and how it ended.

    time: UTC, ISO 8601. result: ``intent`` before a change; ``done``, ``refused`` or ``failed`` after it. previous: the
    hash of the line before. hash: of this line without it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    seq: int = Field(ge=1)
    time: str
    who: str
    action: str
    subject: str
    digests: list[str]
    result: str
    generation: int | None
    details: dict[str, Any]
    previous: str
    hash: str

    @classmethod
    def chained(cls, **fields: Any) -> Self:
        """A line with its hash, from every other field; what UTF-8 can't hold becomes ``?``."""
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        held = json.loads(text)
        return cls(**held, hash=_digest(held))

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """The line that was written as exactly these bytes, without the line's end; None for anything else."""
        try:
            line = cls.model_validate(json.loads(data))
        except (ValueError, RecursionError):
            return None
        return line if line.to_bytes() == data and line.hash == _digest(line.model_dump(exclude={"hash"})) else None

    def to_bytes(self) -> bytes:
        """The one form of this line: ASCII JSON, sorted keys, no spaces, no line's end."""
        return _canonical(self.model_dump())


def entry(
    who: str,
    action: str,
    subject: str,
    digests: Sequence[str] = (),
    result: str = "done",
    generation: int | None = None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The fields of a line of now, all but its place in the chain."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "who": who,
        "action": action,
        "subject": subject,
        "digests": list(digests),
        "result": result,
        "generation": generation,
        "details": dict(details or {}),
    }


def _digest(fields: dict[str, Any]) -> str:
    return f"sha256:{hashlib.sha256(_canonical(fields)).hexdigest()}"


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
