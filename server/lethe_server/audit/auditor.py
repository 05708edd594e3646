"""Recording changes: the intent before, the result after."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from lethe_offsets.errors import LetheError
from lethe_server.audit.line import Line, entry
from lethe_server.auth import Caller
from lethe_server.errors import AuditUnavailable, NotRecorded

REFUSED_EVERY_S = 60.0
MAX_TEXT = 300  # characters of a path or of an error
log = logging.getLogger(__name__)


@dataclass
class Change:
    """What a change turned out to be; filled in while it happens, written with its result.

    digests: references of the modules it touched. details: see ``records.py``.
    """

    digests: Sequence[str] = ()
    generation: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class Auditor(ABC):
    """Takes lines for the record."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refusals: dict[str, _Refusals] = {}

    @abstractmethod
    def close(self) -> None:
        """Let another process write the record."""

    async def append(
        self,
        who: str,
        action: str,
        subject: str,
        digests: Sequence[str] = (),
        result: str = "done",
        generation: int | None = None,
        details: Mapping[str, Any] | None = None,
        keep: bool = False,
    ) -> int:
        """One line; returns its number.

        Raises AuditUnavailable when it isn't on the disk; nothing may be changed then. keep: write it before any later
        line instead of losing it.
        """
        return await self._record(entry(who, action, subject, digests, result, generation, details), keep)

    @abstractmethod
    async def _record(self, fields: dict[str, Any], keep: bool) -> int:
        """As ``append``. fields: of ``entry``."""

    @abstractmethod
    def page(self, after: int, limit: int) -> list[Line]:
        """At most ``limit`` lines with a number above ``after``. Reads a file. Raises AuditUnavailable."""

    @property
    @abstractmethod
    def head(self) -> tuple[int, str]:
        """Number and hash of the last line."""

    @asynccontextmanager
    async def change(self, who: str, action: str, subject: str) -> AsyncIterator[Change]:
        """A change within the block: a line before it, and one that says how it ended.

        Raises AuditUnavailable before the block when its intent can't be written. When the result can't be, it is kept
        and written before any later line, without which nothing can be changed any more.
        """
        intent = await self.append(who, action, subject, result="intent")
        made = Change()
        result, error = "done", {}
        try:
            yield made
        except BaseException as err:
            result, error = "refused" if isinstance(err, LetheError) else "failed", {"error": _told(err)}
            raise
        finally:
            details = {**made.details, **error, "intent": intent}
            await self._finish(
                self.append(who, action, subject, made.digests, result, made.generation, details, keep=True)
            )

    async def _finish(self, line: Coroutine[Any, Any, int]) -> None:
        written = asyncio.ensure_future(line)
        written.add_done_callback(_note_failure)
        with suppress(AuditUnavailable):  # noted, and kept for later
            await asyncio.shield(written)  # a client that goes away must not leave a change without its result

    async def refused(self, caller: Caller, method: str, path: str) -> None:
        """An attempt at administration that was refused. At most one line for each caller in ``REFUSED_EVERY_S``, with
        the number of those in between: nobody without a key may fill the disk."""
        attempts = self._refusals.setdefault(caller.name, _Refusals())
        if not attempts.due(self._clock()):
            return
        details = {"method": method[:MAX_TEXT], "role": caller.role.value, "more_before": attempts.take(self._clock())}
        with suppress(AuditUnavailable):  # told by the log itself; the attempt is refused all the same
            await self.append(caller.name, "admin.attempt", path[:MAX_TEXT], result="refused", details=details)


class NoAudit(Auditor):
    """Nothing is recorded: no audit log is configured."""

    async def _record(self, fields: dict[str, Any], keep: bool) -> int:
        return 0

    def close(self) -> None:
        pass

    def page(self, after: int, limit: int) -> list[Line]:
        raise NotRecorded

    @property
    def head(self) -> tuple[int, str]:
        raise NotRecorded


@dataclass
class _Refusals:
    """Refused attempts of one caller."""

    told_at: float | None = None
    untold: int = 0

    def due(self, now: float) -> bool:
        due = self.told_at is None or now - self.told_at >= REFUSED_EVERY_S
        self.untold += not due
        return due

    def take(self, now: float) -> int:
        untold, self.untold, self.told_at = self.untold, 0, now
        return untold


def _told(error: BaseException) -> str:
    text = str(error) if isinstance(error, LetheError) else type(error).__name__
    return text[:MAX_TEXT]


def _note_failure(written: asyncio.Future[int]) -> None:
    if not written.cancelled() and written.exception() is not None:
        log.error("a change was made and its result could not be recorded yet: %s", written.exception())
