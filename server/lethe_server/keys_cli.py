"""``lethe keys``: the keys file, changed so that a key is shown once and kept nowhere."""

from __future__ import annotations

import json
import secrets
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml
from filelock import FileLock
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lethe_offsets.errors import InvalidInput
from lethe_offsets.examples import Command, commands
from lethe_offsets.writing import replacing
from lethe_server.auth import key_digest
from lethe_server.keys_file import KeyEntries, KeyEntry, describe, read_entries

PRIVATE = 0o600

ADD = """
lethe keys add keys.yaml --name operator --role admin
lethe keys add keys.yaml --name shop --role client --model my-model
"""
LIST = "lethe keys list keys.yaml"
REMOVE = "lethe keys remove keys.yaml --name shop"

app = commands("Make, show and remove keys of a keys file.", ADD)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The file that lethe serve gets as --keys-file.")]
Name = Annotated[str, typer.Option(help="Who the key is for; the audit log shows this name.")]
KeyRole = Annotated[
    Literal["client", "monitor", "evaluator", "admin"], typer.Option("--role", help="What the key is for.")
]
Models = Annotated[
    list[str] | None, typer.Option("--model", metavar="NAME", help="A public model. Repeatable; default: all.")
]
MaxLogprobs = Annotated[int | None, typer.Option(min=0, help="Log-probabilities at a token; default: the role's.")]


@app.command(cls=Command, epilog=ADD)
def add(file: File, name: Name, role: KeyRole, model: Models = None, max_logprobs: MaxLogprobs = None) -> None:
    """Make a key and print it, once: the file holds its hash. Servers read the file again within two seconds."""
    key = f"lethe-{secrets.token_urlsafe(32)}"
    models = tuple(model) if model else None
    with _locked(file):
        entries = read_entries(file).keys if file.exists() else ()
        if name in {entry.name for entry in entries}:
            raise InvalidInput("name", name, f"a name that {file} doesn't have yet")
        try:
            made = KeyEntry(
                name=name, role=role, hash=f"sha256:{key_digest(key).hex()}", models=models, max_logprobs=max_logprobs
            )
        except ValidationError as err:
            raise describe("key", err) from err
        _write(file, [*entries, made])
    typer.echo(key)
    print(f"key {name!r} ({role}) is in {file}; it is not shown again", file=sys.stderr)


@app.command("list", cls=Command, epilog=LIST)
def list_keys(
    file: File, as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False
) -> None:
    """Show names, roles and bounds; also whether the file is valid."""
    entries = read_entries(file).keys
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=2))
        return
    table = Table()
    for column in ("name", "role", "models", "log-probabilities"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        models = ", ".join(entry.models) if entry.models else "all"
        bound = "the role's" if entry.max_logprobs is None else str(entry.max_logprobs)
        table.add_row(*map(Text, (entry.name, entry.role, models, bound)))
    Console().print(table)


@app.command(cls=Command, epilog=REMOVE)
def remove(file: File, name: Name) -> None:
    """Take a key's rights away. Answers under way are finished."""
    with _locked(file):
        entries = read_entries(file).keys
        kept = [entry for entry in entries if entry.name != name]
        if len(kept) == len(entries):
            raise InvalidInput("name", name, f"one of {', '.join(entry.name for entry in entries) or 'no keys'}")
        _write(file, kept)
    print(f"key {name!r} is no longer in {file}", file=sys.stderr)


def _locked(file: Path) -> FileLock:
    """One change at a time."""
    return FileLock(file.with_name(f".{file.name}.lock"))


def _write(file: Path, entries: Sequence[KeyEntry]) -> None:
    """The whole file anew, as private as it was; comments in it are not kept."""
    content = KeyEntries(keys=tuple(entries)).model_dump(mode="json", exclude_none=True)
    mode = stat.S_IMODE(file.stat().st_mode) if file.exists() else PRIVATE
    with replacing(file, "file") as draft:
        draft.touch(PRIVATE)
        draft.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        draft.chmod(mode)
