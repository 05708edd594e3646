"""Changes and refused attempts, as the record has them."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from full_disk import full_disk
from lethe_server.audit.auditor import REFUSED_EVERY_S, NoAudit
from lethe_server.audit.log import AuditLog
from lethe_server.audit.verify import check
from lethe_server.auth import Caller, Role
from lethe_server.errors import AuditUnavailable, ModuleBusy, NotRecorded


def results(path: Path) -> list[tuple[str, str]]:
    return [(line.action, line.result) for line in check(path).lines]


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_change_leaves_its_intent_and_its_result(path: Path, log: AuditLog) -> None:
    async with log.change("ops", "route.put", "m") as change:
        assert results(path) == [("route.put", "intent")]
        assert [line.seq for line in check(path).unfinished()] == [1]
        change.generation, change.digests, change.details = 7, ["a@sha256:1"], {"routes": {}}
    assert results(path)[1:] == [("route.put", "done")]
    last = entries(path)[-1]
    assert (last["generation"], last["digests"]) == (7, ["a@sha256:1"])
    assert last["details"] == {"routes": {}, "intent": 1}
    assert check(path).unfinished() == []


async def test_a_change_that_is_refused_or_fails(path: Path, log: AuditLog) -> None:
    with pytest.raises(ModuleBusy):
        async with log.change("ops", "module.remove", "a"):
            raise ModuleBusy("a route names it")
    with pytest.raises(RuntimeError):
        async with log.change("ops", "module.remove", "a"):
            raise RuntimeError("/a/secret/path")
    assert [result for _, result in results(path)] == ["intent", "refused", "intent", "failed"]
    assert [entry["details"].get("error") for entry in entries(path)] == [
        None,
        "a route names it",
        None,
        "RuntimeError",
    ]


async def test_a_change_whose_client_goes_away_has_a_result(path: Path, log: AuditLog) -> None:
    inside = asyncio.Event()

    async def change() -> None:
        async with log.change("ops", "route.put", "m"):
            inside.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(change())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [result for _, result in results(path)] == ["intent", "failed"]


async def test_a_disk_that_fills_up_under_a_change_keeps_its_result_for_later(path: Path, log: AuditLog) -> None:
    await log.append("ops", "x", "y")
    with ExitStack() as full:
        async with log.change("ops", "route.put", "m") as change:
            full.enter_context(full_disk(free=path.stat().st_size + 100))
            change.generation = 5
        with pytest.raises(AuditUnavailable):
            await log.append("ops", "route.put", "m", result="intent")
    await log.append("ops", "later", "m")
    lines = check(path).lines
    assert [(line.action, line.result, line.generation) for line in lines] == [
        ("x", "done", None),
        ("route.put", "intent", None),
        ("route.put", "done", 5),
        ("later", "done", None),
    ]
    assert check(path).problems == ()


async def test_refused_attempts_are_few_lines_however_many_they_are(path: Path) -> None:
    now = 0.0
    log = AuditLog(path, clock=lambda: now)
    client, nobody = Caller("shop", Role.CLIENT), Caller("anonymous", Role.ANONYMOUS)
    for _ in range(100):
        await log.refused(client, "PUT", "/admin/routes/x" + "y" * 10_000)
    await log.refused(nobody, "GET", "/admin/modules")
    now += REFUSED_EVERY_S
    await log.refused(client, "GET", "/admin/audit")
    log.close()
    shown = [(entry["who"], entry["result"], entry["details"]["more_before"]) for entry in entries(path)]
    assert shown == [("shop", "refused", 0), ("anonymous", "refused", 0), ("shop", "refused", 99)]
    assert len(entries(path)[0]["subject"]) < 500


async def test_without_a_log_changes_are_made() -> None:
    async with NoAudit().change("ops", "route.put", "m") as change:
        change.generation = 1
    with pytest.raises(NotRecorded, match="--audit-log"):
        NoAudit().page(0, 1)
