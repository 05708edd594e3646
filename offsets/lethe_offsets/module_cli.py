"""``lethe module``: make, show and verify forget modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from lethe_offsets import report
from lethe_offsets.create import DEFAULT_RULE, create_module
from lethe_offsets.errors import InvalidInput
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule

app = typer.Typer(help="Make, show and verify forget modules.", no_args_is_help=True, add_completion=False)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The module's directory.")]
Adapter = Annotated[Path | None, typer.Option(metavar="ADAPTER_DIR", help="PEFT LoRA adapter of this lane.")]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Name of the module.")],
    small_model: Annotated[str, typer.Option(metavar="DIR_OR_NAME", help="Small model: a directory or its Hub name.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; nothing may be there yet.")],
    plus: Adapter = None,
    minus: Adapter = None,
    strength: Annotated[float, typer.Option(help="Factor on the offset.")] = DEFAULT_RULE.strength,
    pin_special: Annotated[
        bool, typer.Option(help="Special tokens keep the large model's probability.")
    ] = DEFAULT_RULE.pin_special,
    plausibility: Annotated[
        float, typer.Option(help="Leave tokens alone below this fraction of the largest probability.")
    ] = DEFAULT_RULE.plausibility,
    clip: Annotated[float | None, typer.Option(help="Bound on the absolute offset.")] = DEFAULT_RULE.clip,
    mode: Annotated[
        Literal["linear", "rank"], typer.Option(help="Add the offset, or remove tokens by it.")
    ] = DEFAULT_RULE.mode,
    rank_k: Annotated[int, typer.Option(help="How many tokens rank mode removes.")] = DEFAULT_RULE.rank_k,
    description: Annotated[str, typer.Option(help="What is forgotten, in words.")] = "",
    version: Annotated[str, typer.Option(help="Version of the module.")] = "1",
    large_model: Annotated[str | None, typer.Option(help="Large model it was trained against.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the adapters.")] = "unknown",
) -> None:
    """Make a module from PEFT LoRA adapters, however they were trained; at least one lane."""
    try:
        rule = Rule(strength, pin_special, plausibility, clip, mode, rank_k)
    except ValueError as err:
        raise InvalidInput("rule", "the options given", str(err)) from err
    module = create_module(
        name,
        small_model,
        out=out,
        plus=plus,
        minus=minus,
        rule=rule,
        description=description,
        version=version,
        large_model=large_model,
        licence=licence,
    )
    typer.echo(module.ref)


@app.command()
def inspect(
    directory: Directory,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what a module forgets, how it is applied, what it weighs and how it scored."""
    module = Module.open(directory)
    if as_json:
        typer.echo(json.dumps(report.as_dict(module), indent=2))
    else:
        Console().print(report.as_table(module))


@app.command()
def verify(
    directory: Directory,
    digest: Annotated[str | None, typer.Option(metavar="sha256:HEX", help="The digest it must have.")] = None,
) -> None:
    """Read every file; print the reference when all is as recorded, else say what is not and exit with 1."""
    typer.echo(Module.open(directory, expected_digest=digest).ref)
