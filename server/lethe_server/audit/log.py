"""The audit log: one file, one writer, each line on the disk before anything goes on."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import stat
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lethe_offsets.errors import InvalidInput
from lethe_server.audit.auditor import Auditor
from lethe_server.audit.line import RECOVER, Line, entry
from lethe_server.audit.verify import check_bytes, torn_details
from lethe_server.errors import AuditUnavailable
from lethe_server.state.durable import sync_directory

MAX_KEPT = 1000  # results that wait for room on the disk
SERVER = "server"  # who, for what the server does by itself
log = logging.getLogger(__name__)


class AuditLog(Auditor):
    """JSON lines appended to a file, each with the hash of the one before. Safe for concurrent tasks and threads."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Open or create the log and go on where it ends; a line that was cut off stays, and the next accounts for it.

        Raises InvalidInput for a file that is no sound log, or that another server writes.
        """
        super().__init__(clock)
        self._path = path
        self._lock = threading.Lock()
        self._kept: deque[dict[str, Any]] = deque()
        self._starts = array("Q")  # byte at which each line begins
        self._file = _opened(path)
        try:
            self._resume()
        except BaseException:
            os.close(self._file)
            raise

    def _resume(self) -> None:
        content = _read_all(self._file)
        self._size = len(content)
        found = check_bytes(content)
        wrong = found.problems[:-1] if found.tail else found.problems
        if wrong:
            todo = "keep it elsewhere for whoever has to look into it, and name a new one"
            raise InvalidInput("audit_log", str(self._path), f"a sound audit log ({wrong[0]}); {todo}")
        tail = found.tail
        if tail:
            self._write(b"\n")
            ended = check_bytes(content + b"\n")
            found, tail = (found, tail) if ended.problems else (ended, b"")  # a whole line lacked only its end
        self._starts.extend(found.starts)
        self._seq = found.lines[-1].seq if found.lines else 0
        self._hash = found.head
        if tail:
            log.warning("%s: the last line was cut off after %d bytes; it stays there", self._path, len(tail))
            self._write_line(entry(SERVER, RECOVER, "audit log", details=torn_details(tail)))

    async def _record(self, fields: dict[str, Any], keep: bool) -> int:
        return await asyncio.to_thread(self._append, fields, keep)

    def _append(self, fields: dict[str, Any], keep: bool) -> int:
        with self._lock:
            try:
                self._check_file()
                while self._kept:
                    self._write_line(self._kept[0])
                    self._kept.popleft()
                self._write_line(fields)
            except OSError as err:
                if keep and len(self._kept) < MAX_KEPT:
                    self._kept.append(fields)
                problem = err.strerror or str(err)
                log.error("the audit log %s can't be written: %s", self._path, problem)
                raise AuditUnavailable(f"the audit log can't be written ({problem}), so nothing is changed") from err
            return self._seq

    def _check_file(self) -> None:
        """Raises OSError when the file at the path is not the one that this object writes, as it left it."""
        ours = os.fstat(self._file)
        there = os.stat(self._path, follow_symlinks=True)
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            raise OSError("another file is in its place")
        if ours.st_size != self._size:
            raise OSError(f"it has {ours.st_size} bytes, {self._size} were written")

    def _write_line(self, fields: dict[str, Any]) -> None:
        line = Line.chained(seq=self._seq + 1, previous=self._hash, **fields)
        start = self._size
        self._write(line.to_bytes() + b"\n")
        self._starts.append(start)
        self._seq, self._hash = line.seq, line.hash
        log.info(
            "audit line %d %s: %s %s %s: %s", line.seq, line.hash, line.who, line.action, line.subject, line.result
        )

    def _write(self, data: bytes) -> None:
        """Whole and on the disk, or not at all."""
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)  # never acknowledged, so nothing is lost
            raise
        self._size += len(data)

    def page(self, after: int, limit: int) -> list[Line]:
        with self._lock:
            first, end = min(max(after, 0), len(self._starts)), min(max(after, 0) + limit, len(self._starts))
            stop = self._starts[end] if end < len(self._starts) else self._size
            start = self._starts[first] if first < len(self._starts) else stop
        try:
            found = [Line.parse(data) for data in os.pread(self._file, stop - start, start).splitlines()]
        except OSError as err:
            raise AuditUnavailable(f"the audit log can't be read ({err.strerror})") from err
        return [line for line in found if line is not None]

    @property
    def head(self) -> tuple[int, str]:
        with self._lock:
            return self._seq, self._hash

    def close(self) -> None:
        os.close(self._file)


def _opened(path: Path) -> int:
    """A descriptor that appends to ``path``, for this process alone. Raises InvalidInput."""
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise InvalidInput("audit_log", str(path), f"a file that can be written ({err.strerror})") from err
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise InvalidInput("audit_log", str(path), "a regular file")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sync_directory(path.resolve().parent)
    except BlockingIOError as err:
        os.close(file)
        raise InvalidInput("audit_log", str(path), "a file of its own for each server; another one writes it") from err
    except BaseException:
        os.close(file)
        raise
    return file


def _read_all(file: int) -> bytes:
    size = os.fstat(file).st_size
    content = bytearray()
    while len(content) < size and (data := os.pread(file, size - len(content), len(content))):
        content += data
    return bytes(content)
