"""Modules and routes of a running server as tables. What the server says is never read as markup."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from lethe_server.operator.client import ModuleInfo, RouteInfo, StateInfo

DIGITS = 8  # of a digest; enough for every command


def short(ref: str) -> str:
    """``name@sha256:<8 digits>``, which every command takes."""
    name, _, digest = ref.partition("@sha256:")
    return f"{name}@sha256:{digest[:DIGITS]}" if digest else ref


def modules_table(modules: Iterable[ModuleInfo]) -> Table:
    table = _table("module", "status", "active on", "in flight", "forgets")
    for each in modules:
        status = f"{each.status}: {each.error}" if each.error else each.status
        _row(table, short(each.ref), status, ", ".join(each.active_on) or "-", str(each.inflight), each.forgets)
    return table


def routes_table(routes: Iterable[RouteInfo]) -> Table:
    table = _table("model", "answered by", "share", "in flight")
    for route in routes:
        total = sum(target.weight for target in route.targets)
        for number, target in enumerate(route.targets):
            name = route.model if number == 0 else ""
            _row(table, name, together(target.modules), f"{target.weight / total:.1%}", str(target.inflight))
        if route.shadow is not None:
            _row(table, "", f"{together(route.shadow.modules)} (shadow)", f"{route.shadow.share:.1%}", "-")
    return table


def together(modules: Sequence[str]) -> str:
    """What answers: one module, several together, or the large model alone."""
    return " + ".join(map(short, modules)) or "base"


def state_line(state: StateInfo) -> str:
    """The generation, and what is not in force yet."""
    line = f"generation {state.generation}"
    if state.observed_generation != state.generation:
        line += f", in force: {state.observed_generation}"
    return f"{line}; {state.error}" if state.error else line


def print_json(told: object) -> None:
    print(json.dumps(told, indent=2))


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))
