"""The command ``lethe``: a table of its commands, each imported only when it is run."""

from __future__ import annotations

import importlib
import sys

import typer

from lethe_offsets.errors import LetheError

COMMANDS = {  # name: (typer application, help)
    "serve": ("lethe_server.cli:app", "Serve a large model with forget modules beside it."),
    "train": ("lethe_offsets.training.command:app", "Train a forget module."),
    "record": ("lethe_offsets.recording.command:app", "Record the log-probabilities of a model behind an endpoint."),
    "calibrate": ("lethe_offsets.calibration.command:app", "Find a module's strength by forward passes alone."),
    "merge": ("lethe_offsets.merging.command:app", "Merge forget modules into one."),
    "convert": ("lethe_offsets.conversion.command:app", "Make a module of a fully fine-tuned small model."),
    "plan": ("lethe_server.planning.command:app", "Say what fits on a GPU, from the configs of both models."),
    "bench": ("lethe_server.bench.command:app", "Measure what the offset costs, beside plain vLLM and its peers."),
    "eval": ("lethe_offsets.evaluation.command:app", "Measure what a module makes a model forget, and what stays."),
    "reproduce": ("lethe_offsets.comparison.command:app", "Redo the field's comparison on TOFU, from nothing."),
    "module": ("lethe_offsets.module_cli:app", "Make, show, sign and verify forget modules."),
    "modules": ("lethe_server.operator.modules:app", "Show the modules of a running server."),
    "routes": ("lethe_server.operator.routes:app", "Show what answers for which public name."),
    "swap": ("lethe_server.operator.swap:swap_app", "Let a public name stand for another module."),
    "rollback": ("lethe_server.operator.swap:rollback_app", "Take back the last change of a route."),
    "keys": ("lethe_server.keys_cli:app", "Make, show and remove keys of a keys file."),
    "audit": ("lethe_server.audit.command:app", "Verify the audit log, and ask it about a module."),
    "demo": ("lethe_offsets.demo.command:app", "See a model forget, from training to serving, on a laptop."),
}
FORWARD_ALL = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

app = typer.Typer(
    name="lethe",
    help="Serve a large language model that forgets, without touching its weights.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _load(name: str, target: str) -> typer.Typer:
    module, _, attribute = target.partition(":")
    try:
        loaded = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as err:
        raise LetheError(f"lethe {name} needs {err.name}, which is not installed") from err
    if not isinstance(loaded, typer.Typer):
        raise TypeError(f"{target} is {type(loaded).__name__}, not a typer.Typer")
    return loaded


def _add(name: str, target: str, text: str) -> None:
    """A command that hands its arguments, ``--help`` too, to the application it imports."""

    @app.command(name, help=text, add_help_option=False, context_settings=FORWARD_ALL)
    def forward(context: typer.Context) -> None:
        command = typer.main.get_command(_load(name, target))
        with command.make_context(context.info_name, context.args, parent=context.parent) as inner:
            command.invoke(inner)


for _name, (_target, _text) in COMMANDS.items():
    _add(_name, _target, _text)


def main() -> None:
    """Run ``lethe``: exit code 0, 1 with one line on stderr for a LetheError, 2 for a usage error."""
    try:
        app(prog_name="lethe")
    except LetheError as err:
        print(f"lethe: {err}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
