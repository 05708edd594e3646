"""A report on a module, for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lethe_server.audit.report import ModuleReport, Period


def show(console: Console, found: ModuleReport) -> None:
    """Facts, then when it was active, then every recorded event. Names come from requests: none of it is markup."""
    console.print(_facts(found))
    if found.periods:
        console.print(_periods(found))
    console.print(_events(found))


def _facts(found: ModuleReport) -> Table:
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    if found.active_on:
        state = f"yes, on {', '.join(found.active_on)}"
    elif found.periods:
        state = "no"
    else:
        state = "no, and it never was"
    rows = [
        ("module", found.ref),
        ("forgets", found.forgets or "(not described)"),
        ("active", f"{state} (as of {_time(found.as_of)} UTC)"),
        ("source", found.source or "(not recorded)"),
        *((f"eval {name}", f"{score:.4g}") for name, score in found.scores.items()),
    ]
    if not found.scores:
        rows.append(("evaluation", "none was recorded with it"))
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _periods(found: ModuleReport) -> Table:
    table = Table(title="active", title_justify="left")
    for column in ("route", "share", "since (UTC)", "by", "until (UTC)", "by"):
        table.add_column(column, overflow="fold")
    for period in found.periods:
        ended = ("still", "") if period.until is None else (_time(period.until), period.until_by or "")
        cells = (_route(period), f"{period.share:.3g}", _time(period.since), period.since_by, *ended)
        table.add_row(*map(Text, cells))
    return table


def _route(period: Period) -> str:
    beside = f" together with {', '.join(ref.partition('@')[0] for ref in period.beside)}" if period.beside else ""
    return f"{period.model}{beside}{' (shadow, never answered)' if period.shadow else ''}"


def _events(found: ModuleReport) -> Table:
    table = Table(title="recorded", title_justify="left")
    for column in ("line", "time (UTC)", "who", "action", "result"):
        table.add_column(column, overflow="fold")
    for event in found.events:
        result = f"{event.result}: {event.error}" if event.error else event.result
        table.add_row(*map(Text, (str(event.line), _time(event.time), event.who, event.action, result)))
    return table


def _time(recorded: str) -> str:
    """To the second; the log has it to the millisecond."""
    return recorded[:19].replace("T", " ")
