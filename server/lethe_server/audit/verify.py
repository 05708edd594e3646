"""Is an audit log what was written: every line whole, unchanged, in its place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from lethe_offsets.errors import InvalidInput
from lethe_server.audit.line import GENESIS, RECOVER, Line

SHOWN = 19  # characters of a hash


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line of the file, by its number there from 1."""

    number: int
    text: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.text}"


@dataclass(frozen=True, slots=True)
class Checked:
    """A log as it was found.

    lines: those that are whole, in the order of the file. starts: the byte at which each begins. tail: bytes after the
    last line's end, left by a write that was cut off. cut: numbers of cut off lines that the line after accounts for.
    """

    lines: tuple[Line, ...]
    starts: tuple[int, ...]
    problems: tuple[Problem, ...]
    tail: bytes
    cut: tuple[int, ...]

    @property
    def head(self) -> str:
        """The hash of the last line."""
        return self.lines[-1].hash if self.lines else GENESIS

    def unfinished(self) -> list[Line]:
        """Intents without a result: the server ended in between."""
        ended = {line.details.get("intent") for line in self.lines}
        return [line for line in self.lines if line.result == "intent" and line.seq not in ended]


def check(path: Path) -> Checked:
    """Read the log at ``path`` to its end. Raises InvalidInput when it can't be read."""
    try:
        content = path.read_bytes()
    except OSError as err:
        raise InvalidInput("audit_log", str(path), f"a file that can be read ({err.strerror})") from err
    return check_bytes(content)


def check_bytes(content: bytes) -> Checked:
    """As :func:`check`; after a wrong line the check goes on, so that every wrong one is named."""
    *whole, tail = content.split(b"\n")
    follow = _Follower()
    start = 0
    for number, data in enumerate(whole, start=1):
        follow.take(number, start, data)
        start += len(data) + 1
    follow.end()
    problems = list(follow.problems)
    if tail:
        problems.append(Problem(len(whole) + 1, f"cut off after {len(tail)} bytes; a server that resumes will say so"))
    return Checked(tuple(follow.lines), tuple(follow.starts), tuple(problems), tail, tuple(follow.cut))


class _Follower:
    """Follows the chain line by line."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.starts: list[int] = []
        self.problems: list[Problem] = []
        self.cut: list[int] = []
        self._foreign: list[tuple[int, bytes]] = []  # since the last whole line

    def take(self, number: int, start: int, data: bytes) -> None:
        line = Line.parse(data)
        if line is None:
            self._foreign.append((number, data))
            return
        if self._foreign and _accounts_for(line, self._foreign[-1][1]):
            self.cut.append(self._foreign.pop()[0])
        if text := self._misplaced(line):
            self.problems.append(Problem(number, text))
        self.end()
        self.lines.append(line)
        self.starts.append(start)

    def end(self) -> None:
        """Tell of the lines that are none and that nothing accounts for."""
        self.problems += [Problem(number, "changed: it is not what was written") for number, _ in self._foreign]
        self.problems.sort(key=lambda problem: problem.number)
        self._foreign.clear()

    def _misplaced(self, line: Line) -> str | None:
        last = self.lines[-1] if self.lines else None
        number, head = (last.seq, last.hash) if last else (0, GENESIS)
        expected = number + 1 + len(self._foreign)  # a changed line had its place
        if line.seq > expected:
            return f"{line.seq - expected} missing before it: it is number {line.seq}, after number {expected - 1}"
        if line.seq < expected:
            return f"out of order: it is number {line.seq}, after number {expected - 1}"
        if not self._foreign and line.previous != head:
            return f"does not follow the line before, whose hash is {head[:SHOWN]}..., not {line.previous[:SHOWN]}..."
        return None


def _accounts_for(line: Line, cut_off: bytes) -> bool:
    return line.action == RECOVER and line.details == torn_details(cut_off)


def torn_details(cut_off: bytes) -> dict[str, object]:
    """How the line after one that was cut off says what stands before it."""
    return {"bytes": len(cut_off), "sha256": hashlib.sha256(cut_off).hexdigest()}
