"""Commands whose help ends with examples, printed as they stand.

Typer's own epilog is wrapped and its lines are filled up with blanks: a copied command with a backslash at the end of a
line would break.
"""

from __future__ import annotations

from inspect import cleandoc
from textwrap import indent
from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command; ``epilog`` holds its examples."""

    def __init__(self, *args: Any, epilog: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = epilog

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        formatter.write(_section(self.examples))


class Group(TyperGroup):
    """A command of commands; ``epilog`` holds its examples."""

    def __init__(self, *, epilog: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self.examples = epilog

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        formatter.write(_section(self.examples))


def _section(examples: str) -> str:
    return f"\n Examples:\n\n{indent(cleandoc(examples), '   ')}\n"
