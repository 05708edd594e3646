"""What the record tells of a module. States are made by their own transitions, recorded as the server does it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fakes import module
from lethe_offsets.errors import InvalidInput, ModuleNotFound
from lethe_offsets.module import Module
from lethe_server.audit.auditor import Change
from lethe_server.audit.command import app
from lethe_server.audit.line import GENESIS, Line
from lethe_server.audit.records import record
from lethe_server.audit.report import ModuleReport, Period, report
from lethe_server.state.declared import DeclaredState, RouteSpec, Shadow, Source, Target

SCORES = {"summary": {"forget_quality": 0.91, "passed": True, "note": "x", "nan": float("nan")}, "items": [1, 2]}


class Book:
    """Lines as they would be written, minute by minute, beside the state they came from."""

    def __init__(self, folder: Path) -> None:
        self.a, self.b = (self._with_scores(module(name), folder / name) for name in ("a", "b"))
        self.lines: list[Line] = []
        self.state = DeclaredState()

    def _with_scores(self, made: Module, folder: Path) -> Module:
        folder.mkdir()
        (folder / "eval.json").write_text(json.dumps(SCORES))
        return replace(made, path=folder)

    def write(self, who: str, action: str, subject: str, change: Change, result: str = "done") -> None:
        self.lines.append(
            Line.chained(
                seq=len(self.lines) + 1,
                time=f"2026-01-01T00:{len(self.lines):02d}:00.000+00:00",
                who=who,
                action=action,
                subject=subject,
                digests=list(change.digests),
                result=result,
                generation=change.generation,
                details=dict(change.details),
                previous=self.lines[-1].hash if self.lines else GENESIS,
            )
        )

    def turn(
        self, who: str, action: str, subject: str, after: DeclaredState, *named: Module, complete: bool = False
    ) -> None:
        change = Change()
        record(change, None if complete else self.state, after, named)
        self.write(who, action, subject, change)
        self.state = after

    def add(self, who: str, made: Module) -> None:
        source = Source(ref=made.ref, source=f"/modules/{made.name}")
        self.turn(who, "module.add", made.ref, self.state.with_module(source), made)

    def put(self, who: str, model: str, *targets: Target, shadow: Shadow | None = None) -> None:
        spec = RouteSpec(targets=targets, shadow=shadow)
        self.turn(who, "route.put", model, self.state.with_route(model, spec))

    def roll_back(self, who: str, model: str) -> None:
        self.turn(who, "route.rollback", model, self.state.rolled_back(model))

    def save(self, path: Path) -> Path:
        path.write_bytes(b"".join(line.to_bytes() + b"\n" for line in self.lines))
        return path


@pytest.fixture
def book(tmp_path: Path) -> Book:
    made = Book(tmp_path)
    made.add("ops", made.a)
    made.add("ops", made.b)
    return made


def only(found: Sequence[ModuleReport]) -> ModuleReport:
    (one,) = found
    return one


def told(period: Period) -> tuple[Any, ...]:
    return period.model, round(period.share, 3), period.since_line, period.since_by, period.until_line, period.until_by


def test_from_canary_to_rollback(book: Book) -> None:
    a, b = Target(modules=(book.a.ref,)), Target(modules=(book.b.ref,))
    book.put("ops", "my-model", a)
    book.put("ops", "my-model", a.model_copy(update={"weight": 95}), b.model_copy(update={"weight": 5}))
    book.put("ana", "my-model", b)
    book.roll_back("bo", "my-model")
    book.put("ops", "my-model", a)
    found = only(report(book.lines, "b"))
    assert [told(period) for period in found.periods] == [
        ("my-model", 0.05, 4, "ops", 5, "ana"),
        ("my-model", 1.0, 5, "ana", 6, "bo"),
        ("my-model", 0.05, 6, "bo", 7, "ops"),
    ]
    assert found.active_on == []
    assert only(report(book.lines, "a")).active_on == ["my-model"]
    assert found.forgets == "what it forgets"
    assert found.scores == {"summary.forget_quality": 0.91}
    assert found.source == "/modules/b"
    assert found.periods[0].since == book.lines[3].time
    assert found.as_of == book.lines[-1].time


def test_a_change_elsewhere_ends_nothing(book: Book) -> None:
    book.put("ops", "x", Target(modules=(book.a.ref,)))
    book.put("ops", "y", Target(modules=(book.b.ref,)))
    book.put("ops", "y", Target(modules=(book.a.ref,)))
    found = only(report(book.lines, "a"))
    assert [told(period) for period in found.periods] == [
        ("x", 1.0, 3, "ops", None, None),
        ("y", 1.0, 5, "ops", None, None),
    ]
    assert found.active_on == ["x", "y"]


def test_shadows_and_mergers_are_told_apart(book: Book) -> None:
    both = tuple(sorted((book.a.ref, book.b.ref)))
    book.put("ops", "x", Target(modules=both))
    book.put("ops", "y", Target(modules=(book.a.ref,)), shadow=Shadow(modules=(book.b.ref,), share=0.1))
    found = only(report(book.lines, "b"))
    assert [(period.model, period.share, period.shadow, period.beside) for period in found.periods] == [
        ("x", 1.0, False, [book.a.ref]),
        ("y", 0.1, True, []),
    ]
    assert found.active_on == ["x"]


def test_a_route_that_is_removed_or_gone_after_a_restart(book: Book) -> None:
    book.put("ops", "x", Target(modules=(book.a.ref,)))
    book.put("ops", "y", Target(modules=(book.a.ref,)))
    book.turn("ops", "route.delete", "x", book.state.without_route("x"))
    book.turn("server", "state.start", "state", book.state.without_route("y"), complete=True)
    found = only(report(book.lines, "a"))
    assert [(period.model, period.until_line) for period in found.periods] == [("x", 5), ("y", 6)]
    assert found.active_on == []


def test_a_restart_into_the_same_state_interrupts_nothing(book: Book) -> None:
    book.put("ops", "x", Target(modules=(book.a.ref,)))
    book.turn("server", "state.start", "state", book.state, complete=True)
    assert [told(each) for each in only(report(book.lines, "a")).periods] == [("x", 1.0, 3, "ops", None, None)]


def test_what_was_refused_is_an_event_and_no_period(book: Book) -> None:
    wanted = RouteSpec(targets=(Target(modules=(book.a.ref,)),)).model_dump(mode="json")
    refused = Change(digests=[book.a.ref], details={"error": "a route names it", "routes": {"x": wanted}})
    book.write("ops", "module.remove", book.a.ref, Change(), "intent")
    book.write("ops", "module.remove", book.a.ref, refused, "refused")
    found = only(report(book.lines, "a"))
    assert found.periods == []
    assert [(event.action.split()[0], event.result, event.error) for event in found.events] == [
        ("module.add", "done", None),
        ("module.remove", "refused", "a route names it"),
    ]


def test_versions_and_references(book: Book) -> None:
    other = module("a", "other content")
    book.add("ops", other)
    assert {each.ref for each in report(book.lines, "a")} == {book.a.ref, other.ref}
    assert only(report(book.lines, other.ref[:17])).ref == other.ref
    with pytest.raises(InvalidInput, match="a module of this log: a, b"):
        report(book.lines, "c")
    with pytest.raises(ModuleNotFound):
        report(book.lines, "c@sha256:00000000")


def test_scores_that_can_not_be_read_refuse_nothing(book: Book, caplog: pytest.LogCaptureFixture) -> None:
    (book.a.path / "eval.json").write_text("{")
    change = Change()
    record(change, book.state, book.state, [book.a])
    assert change.details["modules"][book.a.ref]["scores"] == {}
    assert "can't be read" in caplog.text


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_the_command_for_people_and_for_programs(book: Book, tmp_path: Path) -> None:
    book.put("[red]ana", "my-model", Target(modules=(book.a.ref,)))
    path = book.save(tmp_path / "audit.jsonl")
    shown = run("report", path, "--module", "a")
    assert shown.exit_code == 0
    for text in ("what it forgets", "yes, on my-model", "[red]ana", "still", "0.91", "3 lines, sound"):
        assert text in shown.stdout, text
    as_json = json.loads(run("report", path, "--module", "a", "--json").stdout)
    assert as_json["problems"] == []
    assert as_json["modules"][0]["active_on"] == ["my-model"]
    assert isinstance(run("report", path, "--module", "c").exception, InvalidInput)


def test_verify_names_the_line_and_exits_with_1(book: Book, tmp_path: Path) -> None:
    path = book.save(tmp_path / "audit.jsonl")
    sound = run("verify", path)
    assert (sound.exit_code, sound.stderr) == (0, "")
    head = json.loads(run("verify", path, "--json").stdout)["head"]
    assert head == book.lines[-1].hash
    path.write_bytes(path.read_bytes().replace(b'"who":"ops"', b'"who":"eve"', 1))
    for broken in (run("verify", path), run("report", path, "--module", "b"), run("report", path, "--module", "a")):
        assert broken.exit_code == 1
        assert broken.stderr.startswith("line 1: changed")
    assert json.loads(run("verify", path, "--json").stdout)["problems"][0].startswith("line 1: changed")


def test_a_noted_hash_shows_that_the_end_is_missing(book: Book, tmp_path: Path) -> None:
    path, head = book.save(tmp_path / "audit.jsonl"), book.lines[-1].hash
    assert run("verify", path, "--head", head).exit_code == 0
    assert run("verify", path, "--head", book.lines[0].hash).exit_code == 0
    path.write_bytes(book.lines[0].to_bytes() + b"\n")
    assert run("verify", path).exit_code == 0
    shorter = run("verify", path, "--head", head)
    assert shorter.exit_code == 1
    assert "after line 1" in shorter.stderr


def test_a_change_without_a_result_is_told(book: Book, tmp_path: Path) -> None:
    book.write("ops", "route.put", "x", Change(), "intent")
    shown = run("verify", book.save(tmp_path / "audit.jsonl"))
    assert shown.exit_code == 0
    assert "number 3 began and has no result" in shown.stdout
