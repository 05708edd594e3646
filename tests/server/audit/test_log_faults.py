"""The log under kills, full disks and other people's hands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from full_disk import full_disk
from lethe_server.audit.log import AuditLog
from lethe_server.audit.verify import check
from lethe_server.auth import Caller, Role
from lethe_server.errors import AuditUnavailable

# Writes without end; prints each number once its line is on the disk.
WRITER = """
import asyncio, sys
from pathlib import Path
from lethe_server.audit.log import AuditLog
async def write():
    log = AuditLog(Path(sys.argv[1]))
    while True:
        print(await log.append("ops", "route.put", "m" * 3000), flush=True)
asyncio.run(write())
"""


def results(path: Path) -> list[tuple[str, str]]:
    return [(line.action, line.result) for line in check(path).lines]


@pytest.mark.parametrize("kept", [1, 40, -2])
async def test_a_line_that_was_cut_off_is_told_and_stays(path: Path, kept: int) -> None:
    log = AuditLog(path)
    await log.append("ops", "first", "m")
    await log.append("ops", "second", "m")
    log.close()
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept])
    assert [problem.number for problem in check(path).problems] == [2]
    log = AuditLog(path)
    await log.append("ops", "third", "m")
    log.close()
    assert path.read_bytes().startswith(first + second[:kept])
    found = check(path)
    assert found.problems == ()
    assert found.cut == (2,)
    assert [(line.seq, line.action) for line in found.lines] == [(1, "first"), (2, "recover"), (3, "third")]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[2:]]))
    assert check(path).problems == ()  # the torn bytes were never a record; what tells of them stays
    path.write_bytes(b"".join([lines[0], b"x" + lines[1], *lines[2:]]))
    assert next(problem.number for problem in check(path).problems) == 2


async def test_a_line_that_lacks_only_its_end_is_whole(path: Path) -> None:
    log = AuditLog(path)
    await log.append("ops", "first", "m")
    log.close()
    path.write_bytes(path.read_bytes()[:-1])
    log = AuditLog(path)
    assert await log.append("ops", "second", "m") == 2
    log.close()
    assert (check(path).problems, check(path).cut) == ((), ())
    assert [line.action for line in check(path).lines] == ["first", "second"]


async def test_killed_while_writing_loses_nothing_that_was_acknowledged(path: Path) -> None:
    for _ in range(3):
        before = len(check(path).lines) if path.exists() else 0
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        shown = [int(writer.stdout.readline()) for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
        acknowledged = max([*shown, *map(int, rest.split())])
        log = AuditLog(path)
        log.close()
        found = check(path)
        assert found.problems == ()
        assert len(found.lines) >= acknowledged > before


async def test_a_full_disk_refuses_changes_and_nothing_else(path: Path, log: AuditLog) -> None:
    await log.append("ops", "x", "y")
    written = path.read_bytes()
    changed = False
    with full_disk(free=len(written) + 100):
        with pytest.raises(AuditUnavailable, match="nothing is changed"):
            async with log.change("ops", "route.put", "m"):
                changed = True
        assert not changed
        assert path.read_bytes() == written
        assert [line.seq for line in log.page(0, 10)] == [1]
    async with log.change("ops", "route.put", "m"):
        pass
    assert check(path).problems == ()
    assert [result for _, result in results(path)] == ["done", "intent", "done"]


@pytest.mark.parametrize("how", ["removed", "replaced", "truncated", "grown"])
async def test_a_file_that_someone_else_touches_is_noticed(path: Path, log: AuditLog, how: str) -> None:
    await log.append("ops", "x", "y")
    await log.append("ops", "x", "y")
    content = path.read_bytes()
    aside = path.with_name("aside")
    if how == "removed":
        path.rename(aside)
    elif how == "replaced":
        path.rename(aside)
        path.write_bytes(content)
    elif how == "truncated":
        os.truncate(path, len(content) // 2)
    else:
        path.write_bytes(content + b"{}\n")
    with pytest.raises(AuditUnavailable):
        await log.append("ops", "x", "y")
    if aside.exists():
        aside.replace(path)
    elif how == "grown":
        os.truncate(path, len(content))
    else:
        return
    assert await log.append("ops", "x", "y") == 3
    assert check(path).problems == ()


async def test_pages_after_a_cut_off_line(path: Path) -> None:
    log = AuditLog(path)
    await log.append("ops", "first", "m")
    log.close()
    with path.open("ab") as torn:
        torn.write(b'{"action": "lost')
    again = AuditLog(path)
    await again.append("ops", "last", "m")
    assert [line.action for line in again.page(0, 10)] == ["first", "recover", "last"]
    assert [line.action for line in again.page(1, 1)] == ["recover"]
    again.close()


async def test_a_refused_attempt_stays_refused_on_a_full_disk(path: Path, log: AuditLog) -> None:
    with full_disk(free=10):
        await log.refused(Caller("shop", Role.CLIENT), "PUT", "/admin/routes/x")
