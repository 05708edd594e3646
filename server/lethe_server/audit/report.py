"""What a privacy officer asks of the record: was it forgotten, when, on which route, by whom, and is it still."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from lethe_offsets.catalog import match_ref
from lethe_offsets.errors import InvalidInput
from lethe_server.audit.line import Line


class Period(BaseModel):
    """A time in which a module answered for a public name. since, until: UTC; until is None while it goes on.

    share: of the route's clients. beside: modules that answered together with it. shadow: compared only, its answers
    never returned.
    """

    model: str
    share: float
    beside: list[str] = []
    shadow: bool = False
    since: str
    since_by: str
    since_line: int
    until: str | None = None
    until_by: str | None = None
    until_line: int | None = None


class Event(BaseModel):
    """A line that is about the module itself, or an attempt that came to nothing."""

    line: int
    time: str
    who: str
    action: str
    result: str
    error: str | None = None


class ModuleReport(BaseModel):
    """One version of a module. active_on: public names that it answers for as of the last line, without shadows."""

    ref: str
    forgets: str | None
    scores: dict[str, float]
    source: str | None
    active_on: list[str]
    periods: list[Period]
    events: list[Event]
    as_of: str


def report(lines: Sequence[Line], module: str) -> list[ModuleReport]:
    """A report for each version of ``module`` (name, or reference of which 8 digits are enough) that the log names.

    Raises InvalidInput when it names none.
    """
    known = sorted({ref for line in lines for ref in _named(line)})
    versions = [ref for ref in known if ref.partition("@")[0] == module]
    found = [match_ref(module, known)] if "@" in module else versions
    if not found:
        names = sorted({ref.partition("@")[0] for ref in known})
        raise InvalidInput("module", module, f"a module of this log: {', '.join(names) or 'it names none'}")
    return [_report_on(lines, ref) for ref in found]


def _named(line: Line) -> Iterable[str]:
    return (ref for ref in line.digests if "@sha256:" in ref)


def _report_on(lines: Sequence[Line], ref: str) -> ModuleReport:
    told: dict[str, Any] = {}
    for line in lines:
        told.update(line.details.get("modules", {}).get(ref, {}))
    periods = list(_periods(lines, ref))
    return ModuleReport(
        ref=ref,
        forgets=told.get("forgets"),
        scores=told.get("scores", {}),
        source=told.get("source"),
        active_on=sorted({period.model for period in periods if period.until is None and not period.shadow}),
        periods=periods,
        events=[_event(line) for line in lines if ref in line.digests and line.result != "intent"],
        as_of=lines[-1].time,
    )


def _event(line: Line) -> Event:
    action = f"{line.action} {line.subject}"
    error = line.details.get("error")
    return Event(line=line.seq, time=line.time, who=line.who, action=action, result=line.result, error=error)


def _periods(lines: Sequence[Line], ref: str) -> Iterator[Period]:
    """In the order in which they began; a new share begins a new one."""
    going: dict[str, list[Period]] = {}
    every: list[Period] = []
    for line in lines:
        routes = line.details.get("routes")
        if line.result != "done" or routes is None:
            continue
        ended = [name for name in going if name not in routes] if line.details.get("complete") else []
        for name, spec in [*routes.items(), *((name, None) for name in ended)]:
            now = [] if spec is None else list(_uses(name, spec, ref, line))
            before = going.get(name, [])
            if [_kind(period) for period in now] == [_kind(period) for period in before]:
                continue
            for period in before:
                period.until, period.until_by, period.until_line = line.time, line.who, line.seq
            going[name] = now
            every += now
    yield from every


def _uses(name: str, spec: dict[str, Any], ref: str, line: Line) -> Iterator[Period]:
    """How a route's spec, as recorded, uses the module."""
    total = sum(target["weight"] for target in spec["targets"])
    uses = [(target["modules"], target["weight"] / total, False) for target in spec["targets"]]
    if spec.get("shadow"):
        uses.append((spec["shadow"]["modules"], spec["shadow"]["share"], True))
    for modules, share, shadow in uses:
        if ref in modules:
            beside = [other for other in modules if other != ref]
            yield Period(
                model=name,
                share=share,
                beside=beside,
                shadow=shadow,
                since=line.time,
                since_by=line.who,
                since_line=line.seq,
            )


def _kind(period: Period) -> tuple[float, list[str], bool]:
    return period.share, period.beside, period.shadow
