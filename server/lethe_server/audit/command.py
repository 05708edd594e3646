"""``lethe audit``: verify the record, and ask it about a module."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lethe_offsets.examples import Command, commands
from lethe_server.audit.report import report as report_on
from lethe_server.audit.show import show
from lethe_server.audit.verify import Checked, check

BROKEN = 1

EXAMPLES = """
lethe audit verify audit.jsonl
lethe audit report audit.jsonl --module forget-marta
"""
VERIFY = """
lethe audit verify audit.jsonl
lethe audit verify audit.jsonl --json
"""
REPORT = """
lethe audit report audit.jsonl --module forget-marta
lethe audit report audit.jsonl --module forget-marta@sha256:97fe8135 --json
"""

app = commands("Verify the audit log, and ask it about a module.", EXAMPLES)

File = Annotated[Path, typer.Argument(metavar="FILE", help="An audit log.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Head = Annotated[
    str | None, typer.Option(metavar="HASH", help="Hash of a line noted earlier, which the log must still hold.")
]


@app.command(cls=Command, epilog=VERIFY)
def verify(file: File, head: Head = None, as_json: AsJson = False) -> None:
    """Check every line; name those that were changed, are missing or out of place, and exit with 1.

    Lines missing at the very end can only be seen against a hash noted elsewhere: --head. The server logs the hash of
    each line, and GET /admin/audit gives the newest.
    """
    found = check(file)
    problems = _told(found, head)
    if as_json:
        told = {"lines": len(found.lines), "head": found.head, "problems": problems, "cut_off": list(found.cut)}
        typer.echo(json.dumps({**told, "unfinished": [line.seq for line in found.unfinished()]}, indent=2))
    else:
        _print_state(found, problems)
    if problems:
        raise typer.Exit(BROKEN)


@app.command(cls=Command, epilog=REPORT)
def report(
    file: File,
    module: Annotated[str, typer.Option(metavar="NAME_OR_REF", help="The module.")],
    as_json: AsJson = False,
) -> None:
    """What a module forgets, when it was active on which route, by whom, how it scored, and whether it still is.

    Exits with 1 when the log is not sound: what it says can't be relied on then.
    """
    found = check(file)
    problems = _told(found, None)
    reports = report_on(found.lines, module)
    if as_json:
        told = {"head": found.head, "problems": problems, "modules": [each.model_dump(mode="json") for each in reports]}
        typer.echo(json.dumps(told, indent=2))
    else:
        console = Console()
        for each in reports:
            show(console, each)
        _print_state(found, problems)
    if problems:
        raise typer.Exit(BROKEN)


def _told(found: Checked, head: str | None) -> list[str]:
    """What is wrong with the log, said on stderr as well."""
    problems = [str(problem) for problem in found.problems]
    if head is not None and head not in {line.hash for line in found.lines}:
        problems.append(f"after line {len(found.lines)}: no line has the hash {head}; lines are missing or rewritten")
    for problem in problems:
        print(problem, file=sys.stderr)
    return problems


def _print_state(found: Checked, problems: list[str]) -> None:
    for number in found.cut:
        typer.echo(f"line {number} was cut off by a crash; the line after it says so")
    for line in found.unfinished():
        typer.echo(f"number {line.seq} began and has no result: {line.who} {line.action} {line.subject}")
    state = f"{len(problems)} problems" if problems else "sound"
    typer.echo(f"{len(found.lines)} lines, {state}; head {found.head}")
