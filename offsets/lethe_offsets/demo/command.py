"""``lethe demo``: a model is made, forgets, and is served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lethe_offsets.examples import Command
from lethe_offsets.steps import default_cache_dir

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
EXAMPLES = r"""
lethe demo
lethe demo --build-only --cache-dir demo
"""


@app.command(cls=Command, epilog=EXAMPLES)
def demo(
    build_only: Annotated[bool, typer.Option("--build-only", help="Don't serve.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Build everything again.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")] = 8000,
    cache_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where what is built is kept; default: the user's cache.")
    ] = None,
) -> None:
    """See a model forget: a world of fictitious people, two models and a forget module, all made here.

    The first run builds them, which takes about a minute; later ones find them in the cache.
    """
    from lethe_offsets.demo.run import run  # imports torch and transformers, which takes seconds

    run((cache_dir or default_cache_dir()).resolve(), None if build_only else port, fresh)
