"""``lethe eval``: what a module makes a model forget, and what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lethe_offsets.errors import InvalidInput, LetheError
from lethe_offsets.examples import Command
from lethe_offsets.recording.command import Key

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
EXAMPLES = r"""
lethe eval --url http://127.0.0.1:8000 --model my-model \
    --tokenizer Qwen/Qwen3-0.6B --tofu tofu --split forget10 \
    --reference retain90.reference.json --out eval

lethe eval --large Qwen/Qwen3-14B --small Qwen/Qwen3-0.6B \
    --module modules/forget-marta --into-module \
    --forget forget.jsonl --retain retain.jsonl --out eval
"""

SERVER, PROCESS, QUESTIONS, MEASURES = "A model at a server", "A model in process", "Questions", "What is measured"
DATA = "JSON lines or a dataset, as for training."


@app.command(name="eval", cls=Command, epilog=EXAMPLES)
def evaluate(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; the same command goes on there.")],
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Server that returns prompt_logprobs.", rich_help_panel=SERVER)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name to ask for; or a module's name@sha256:...", rich_help_panel=SERVER),
    ] = None,
    api_key: Key = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="DIR_OR_NAME", help="Its tokenizer; default: the small model's.", rich_help_panel=SERVER),
    ] = None,
    target: Annotated[
        str,
        typer.Option(metavar="NAME", help="The large model alone, to stand beside; or none.", rich_help_panel=SERVER),
    ] = "base",
    large: Annotated[
        str | None, typer.Option(metavar="DIR_OR_NAME", help="Large model.", rich_help_panel=PROCESS)
    ] = None,
    small: Annotated[
        str | None,
        typer.Option(metavar="DIR_OR_NAME", help="Small model; default: the manifest's.", rich_help_panel=PROCESS),
    ] = None,
    module: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The module; at a server, the one that it has.", rich_help_panel=PROCESS),
    ] = None,
    retrained: Annotated[
        str | None,
        typer.Option(metavar="DIR_OR_NAME", help="A model that never learned it.", rich_help_panel=PROCESS),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=PROCESS)] = "auto",
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="What the models compute in.", rich_help_panel=PROCESS)
    ] = "float32",
    tofu: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of TOFU's JSON files.", rich_help_panel=QUESTIONS)
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="TOFU's split: forget01, forget05 or forget10.",
            rich_help_panel=QUESTIONS,
            autocompletion=lambda: ["forget01", "forget05", "forget10"],
        ),
    ] = "forget10",
    forget: Annotated[str | None, typer.Option(metavar="DATA", help=DATA, rich_help_panel=QUESTIONS)] = None,
    retain: Annotated[str | None, typer.Option(metavar="DATA", help=DATA, rich_help_panel=QUESTIONS)] = None,
    holdout: Annotated[
        str | None, typer.Option(metavar="DATA", help="Like the forget set, but never seen.", rich_help_panel=QUESTIONS)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The first so many questions of each set.", rich_help_panel=QUESTIONS)
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="Groups (tofu, axes) or single metrics.",
            rich_help_panel=MEASURES,
            autocompletion=lambda: ["tofu", "axes", "tofu,axes"],
        ),
    ] = "tofu,axes",
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A retain model's truth ratios, for forget quality.", rich_help_panel=MEASURES
        ),
    ] = None,
    write_reference: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write those of the retrained model.", rich_help_panel=MEASURES),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="Another strength than the module's.", rich_help_panel=MEASURES)
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.", rich_help_panel=MEASURES)] = 200,
    samples: Annotated[
        int, typer.Option(min=1, max=1000, help="Answers drawn to each question.", rich_help_panel=MEASURES)
    ] = 100,
    seed: Annotated[int, typer.Option(help="Draws whatever is drawn.", rich_help_panel=MEASURES)] = 0,
    into_module: Annotated[
        bool, typer.Option("--into-module", help="Write the numbers into the module's eval.json.")
    ] = False,
) -> None:
    """Measure what a model has forgotten and what it has kept, and write a report that a person can sign.

    At a server a key for measuring sees the large model alone (base) and modules by reference. Where a metric needs
    what isn't given, the report says so. After an interruption the same command goes on after the last finished metric.
    """
    if into_module and module is None:
        raise InvalidInput("into-module", True, "together with --module")
    if (tofu is None) == (forget is None):
        raise InvalidInput("tofu, forget", [tofu and str(tofu), forget], "one of the two")
    try:
        from lethe_offsets.evaluation.assembly import Options  # imports torch and transformers, which takes seconds
        from lethe_offsets.evaluation.metrics import Settings, all_metrics, chosen
        from lethe_offsets.evaluation.session import Session
        from lethe_offsets.evaluation.sets import own_sets
        from lethe_offsets.evaluation.tofu.data import read_tofu

        known = all_metrics()
    except ModuleNotFoundError as err:
        raise LetheError(f"lethe eval needs {err.name}, of the packages in lethe-server[eval]") from err
    wanted = chosen(metrics, known)
    sets = read_tofu(tofu, split) if tofu is not None else own_sets(str(forget), retain, holdout)
    models = Options(url, model, api_key, tokenizer, target, large, small, module, strength, retrained, device, dtype)
    session = Session(
        options=models,
        sets=sets.first(limit) if limit is not None else sets,
        metrics=wanted,
        settings=Settings(max_tokens=max_tokens, num_samples=samples, seed=seed),
        reference=reference,
        write_reference=write_reference,
        into=module if into_module else None,
        out=out,
    )
    try:
        session.run()
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on.", err=True)
        raise typer.Exit(130) from None
