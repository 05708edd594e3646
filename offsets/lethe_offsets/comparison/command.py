"""``lethe reproduce``: the field's comparison, trained from nothing at a size that runs here."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from lethe_offsets.examples import Command, Group

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
EXAMPLES = r"""
lethe reproduce tofu --tofu tofu --out runs --split forget10 --dry-run

lethe reproduce tofu --tofu tofu --out runs --split forget01,forget10 \
    --size small --device cuda --jobs 1
"""


@app.callback(cls=Group, epilog=EXAMPLES)
def reproduce() -> None:
    """Redo a comparison of the field."""


@app.command(cls=Command, epilog=EXAMPLES)
def tofu(
    data: Annotated[Path, typer.Option("--tofu", metavar="DIR", help="TOFU's folder of JSON files.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is kept, for the next run too.")],
    size: Annotated[Literal["mini", "small"], typer.Option(help="mini: for two cores; small: for a GPU.")] = "mini",
    split: Annotated[str, typer.Option(metavar="SPLIT,...", help="forget01, forget05, forget10.")] = "forget10",
    methods: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="direct, offset, pair, or rows by name; default: all.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the two best ways of forgetting.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Steps at once, each on one core; 1 on a GPU.")] = 2,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where models run.")] = "cpu",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, and how long it takes.")
    ] = False,
) -> None:
    """Train a target, a retrained and two small models on TOFU, let every method forget, and print one table per split.

    Compared are direct fine-tuning of the large model, every offset method of lethe train, and retain/forget pairs.
    Every finished step is kept in DIR; the same command goes on where an interrupted one was.
    """
    from rich.console import Console

    from lethe_offsets.comparison.builds import Builds  # imports torch and transformers, which takes seconds
    from lethe_offsets.comparison.comparison import Comparison
    from lethe_offsets.comparison.contenders import choose_contenders
    from lethe_offsets.comparison.plan import plan
    from lethe_offsets.comparison.run import reproduce
    from lethe_offsets.comparison.sizes import SIZES

    contenders, console = choose_contenders(methods), Console()
    builds = [Builds(data.resolve(), out.resolve(), SIZES[size], name.strip(), device) for name in split.split(",")]
    for own in builds:
        if dry_run:
            console.print(plan(Comparison(own, contenders), seeds, jobs))
            continue
        words = ["lethe", "reproduce", "tofu", "--tofu", "TOFU", "--out", "DIR", "--size", size, "--split", own.split]
        words += ["--seeds", str(seeds), "--jobs", str(jobs), "--device", device]
        words += ["--methods", methods] if methods else []
        typer.echo(reproduce(own, contenders, seeds, jobs, shlex.join(words), console))
