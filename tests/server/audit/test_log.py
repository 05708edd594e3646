from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from lethe_offsets.errors import InvalidInput
from lethe_server.audit.line import GENESIS
from lethe_server.audit.log import AuditLog
from lethe_server.audit.verify import check


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_lines_are_chained_from_a_fixed_beginning(path: Path, log: AuditLog) -> None:
    assert await log.append("ops", "route.put", "my-model", ["a@sha256:1"], "done", 3, {"x": 1}) == 1
    assert await log.append("ops", "route.put", "my-model") == 2
    first, second = entries(path)
    assert first["previous"] == GENESIS
    assert second["previous"] == first["hash"]
    assert {key: first[key] for key in ("seq", "who", "subject", "digests", "result", "generation", "details")} == {
        "seq": 1,
        "who": "ops",
        "subject": "my-model",
        "digests": ["a@sha256:1"],
        "result": "done",
        "generation": 3,
        "details": {"x": 1},
    }
    assert log.head == (2, second["hash"])
    assert check(path).problems == ()


async def test_the_file_is_its_owners_alone(path: Path, log: AuditLog) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


async def test_any_text_can_be_recorded(path: Path, log: AuditLog) -> None:
    odd = 'line\nbreak \u2028 \ud800 \x00 é 😀 \\ "'
    await log.append(odd, odd, odd, [odd], details={odd: odd})
    assert check(path).problems == ()
    assert len(path.read_bytes().splitlines()) == 1
    assert log.page(0, 1)[0].subject == odd.replace("\ud800", "?")


async def test_tasks_at_once(path: Path, log: AuditLog) -> None:
    async def change(number: int) -> None:
        async with log.change(f"w{number}", "route.put", "m"):
            await asyncio.sleep(0)

    await asyncio.gather(*(change(number) for number in range(40)))
    found = check(path)
    assert found.problems == ()
    assert found.unfinished() == []
    assert [line.seq for line in found.lines] == list(range(1, 81))


async def test_going_on_after_a_restart(path: Path) -> None:
    for _ in range(3):
        log = AuditLog(path)
        await log.append("ops", "x", "y")
        log.close()
    assert [line.seq for line in check(path).lines] == [1, 2, 3]
    assert check(path).problems == ()


async def test_one_file_has_one_writer(path: Path, log: AuditLog) -> None:
    with pytest.raises(InvalidInput, match="own for each server"):
        AuditLog(path)


async def test_files_that_are_no_sound_log(path: Path, tmp_path: Path) -> None:
    path.write_text("hello\n")
    with pytest.raises(InvalidInput, match="line 1"):
        AuditLog(path)
    assert path.read_text() == "hello\n"
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "pipe", "no/such/folder"):
        with pytest.raises(InvalidInput, match="audit_log"):
            AuditLog(tmp_path / name)


async def test_pages(log: AuditLog) -> None:
    for number in range(1, 8):
        await log.append("ops", "x", f"m{number}")
    assert [line.subject for line in log.page(0, 3)] == ["m1", "m2", "m3"]
    assert [line.subject for line in log.page(3, 100)] == ["m4", "m5", "m6", "m7"]
    assert log.page(7, 10) == []
    assert log.page(10**12, 10) == []
