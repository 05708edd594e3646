"""Commands whose help ends with examples, printed as they stand.

Typer's own epilog is wrapped and its lines are filled up with blanks: a copied command with a backslash at the end of a
line would break.
"""

from __future__ import annotations

from inspect import cleandoc
from textwrap import indent
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class _WithExamples:
    def __init__(self, *args: Any, epilog: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = epilog

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)  # type: ignore[misc]  # typer's, which stands behind this class
        formatter.write(f"\n Examples:\n\n{indent(cleandoc(self.examples), '   ')}\n")


class Command(_WithExamples, TyperCommand):
    """A command; ``epilog`` holds its examples."""


class Group(_WithExamples, TyperGroup):
    """A command of commands; ``epilog`` holds its examples."""


def commands(text: str, examples: str) -> typer.Typer:
    """An application of several commands; text: its help."""
    return typer.Typer(cls=Group, help=text, epilog=examples, no_args_is_help=True, add_completion=False)
