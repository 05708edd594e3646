"""The command ``lethe``: a table of its commands, each imported only when it is run or completed."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from lethe_offsets.errors import LetheError
from lethe_offsets.examples import Group

PANELS = {  # panel of the help: {name: (typer application, help)}
    "See it": {
        "demo": ("lethe_offsets.demo.command:app", "See a model forget, from training to serving, on a laptop."),
    },
    "Make a forget module": {
        "train": ("lethe_offsets.training.command:app", "Train a forget module."),
        "record": ("lethe_offsets.recording.command:app", "Record log-probabilities of a model behind an endpoint."),
        "calibrate": ("lethe_offsets.calibration.command:app", "Find a module's strength by forward passes alone."),
        "merge": ("lethe_offsets.merging.command:app", "Merge forget modules into one."),
        "convert": ("lethe_offsets.conversion.command:app", "Make a module of a fully fine-tuned small model."),
        "module": ("lethe_offsets.module_cli:app", "Make, show, sign and verify forget modules."),
    },
    "Serve it": {
        "plan": ("lethe_server.planning.command:app", "Say what fits on a GPU, from the configs of both models."),
        "serve": ("lethe_server.cli:app", "Serve a large model with forget modules beside it."),
        "keys": ("lethe_server.keys_cli:app", "Make, show and remove keys of a keys file."),
    },
    "Change what a running server serves": {
        "modules": ("lethe_server.operator.modules:app", "Show the modules of a running server."),
        "routes": ("lethe_server.operator.routes:app", "Show what answers for which public name."),
        "swap": ("lethe_server.operator.swap:swap_app", "Let a public name stand for another module."),
        "rollback": ("lethe_server.operator.swap:rollback_app", "Take back the last change of a route."),
    },
    "Show what is forgotten": {
        "eval": ("lethe_offsets.evaluation.command:app", "Measure what a module makes a model forget, and what stays."),
        "audit": ("lethe_server.audit.command:app", "Verify the audit log, and ask it about a module."),
    },
    "Redo the measurements": {
        "reproduce": ("lethe_offsets.comparison.command:app", "Redo the field's comparison on TOFU, from nothing."),
        "bench": ("lethe_server.bench.command:app", "Measure what the offset costs, beside plain vLLM and its peers."),
    },
}
COMMANDS = {name: entry for panel in PANELS.values() for name, entry in panel.items()}
EXAMPLES = r"""
lethe demo

lethe train --model Qwen/Qwen3-14B --small-model Qwen/Qwen3-0.6B \
    --forget forget.jsonl --retain retain.jsonl --out modules/forget-marta
lethe serve --model Qwen/Qwen3-14B --small-model Qwen/Qwen3-0.6B \
    --module modules/forget-marta --served-model-name my-model
"""


class LazyCommands(Group):
    """Lists the commands of the table by name and help; imports one that is run, or completed beyond its name."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for panel, entries in PANELS.items():
            for name, (_, text) in entries.items():
                self.add_command(TyperCommand(name, help=text, rich_help_panel=panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, listed, rest = super().resolve_command(ctx, args)
        if name is None:
            return name, listed, rest
        try:
            return name, typer.main.get_command(_load(name)), rest
        except LetheError:
            if ctx.resilient_parsing:  # a shell completes, and would show the error in the line being typed
                return name, listed, rest
            raise


app = typer.Typer(
    name="lethe",
    cls=LazyCommands,
    help="Serve a large language model that forgets, without touching its weights.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _load(name: str) -> typer.Typer:
    target, _ = COMMANDS[name]
    module, _, attribute = target.partition(":")
    try:
        loaded = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as err:
        raise LetheError(f"lethe {name} needs {err.name}, which is not installed") from err
    if not isinstance(loaded, typer.Typer):
        raise TypeError(f"{target} is {type(loaded).__name__}, not a typer.Typer")
    return loaded


def _print_version(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        typer.echo(f"lethe {version('lethe-server')}")
        raise typer.Exit


@app.callback()
def lethe(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of ``lethe`` itself."""


def main() -> None:
    """Run ``lethe``: exit code 0, 1 with one line on stderr for a LetheError, 2 for a usage error."""
    try:
        app(prog_name="lethe")
    except LetheError as err:
        print(f"lethe: {err}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
