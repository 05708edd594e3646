"""``lethe calibrate``: the strength of a module, or how many tokens it removes, by forward passes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lethe_offsets.examples import Command
from lethe_offsets.recording.command import CONCURRENCY, TOP_K, Concurrency, Key

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
EXAMPLES = r"""
lethe calibrate --module modules/forget-marta --url http://127.0.0.1:8000 \
    --forget forget.jsonl --retain other.jsonl --plot strengths.png

lethe calibrate --module modules/forget-marta --logits other.recording \
    --forget forget.jsonl --retain other.jsonl --strength 0.8 --strength 1.2
"""


@app.command(cls=Command, epilog=EXAMPLES)
def calibrate(
    module: Annotated[Path, typer.Option(metavar="DIR", help="The module.")],
    forget: Annotated[str, typer.Option(metavar="DATA", help="Forget set.")],
    retain: Annotated[str, typer.Option(metavar="DATA", help="Retain set; other data than it was trained on.")],
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="OpenAI-compatible server that returns prompt_logprobs.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the large model alone at the server; a Lethe server's is base.")
    ] = "base",
    logits: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A recording of the large model on both sets; made, if URL is given."),
    ] = None,
    small_model: Annotated[
        str | None, typer.Option(metavar="DIR_OR_NAME", help="Small model; default: the manifest's.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="A model that never learned the forget set: its directory, or a recording of it."
        ),
    ] = None,
    max_retain_loss: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="With a reference: share of the retain probability it may cost.")
    ] = 0.05,
    strength: Annotated[
        list[float] | None, typer.Option(help="A strength to try; repeatable. Default: 8 up to the manifest's bound.")
    ] = None,
    rank_k: Annotated[
        list[int] | None, typer.Option(help="A number of tokens to remove in rank mode; repeatable.")
    ] = None,
    gate: Annotated[list[float] | None, typer.Option(help="A gate to try, in nats; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to write; default: MODULE-calibrated.")] = None,
    version: Annotated[str | None, typer.Option(help="Version of the new module; default: OLD-calibrated.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the grid.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Most probable tokens to ask the server for.")] = TOP_K,
    api_key: Key = None,
    concurrency: Concurrency = CONCURRENCY,
    max_length: Annotated[int, typer.Option(min=2, help="Longer examples, in tokens, are refused.")] = 1024,
) -> None:
    """Try a module's rule at several strengths or gates and write the module with the best one.

    The large model is asked once for the probability of every answer; all else is computed here, with the small model.
    Without a reference the best rule has the largest min(1, retain / retain before) - forget / forget before; with
    one it comes nearest to the reference on the forget set.
    """
    from rich.console import Console

    from lethe_offsets.calibration import run, show  # imports torch and transformers, which takes seconds
    from lethe_offsets.calibration.grid import grid
    from lethe_offsets.errors import InvalidInput
    from lethe_offsets.module import Module
    from lethe_offsets.recording.file import Recording
    from lethe_offsets.recording.run import record
    from lethe_offsets.training.data import read_examples
    from lethe_offsets.training.large import sound_tokenizer
    from lethe_offsets.training.progress import progress_bars

    old = Module.open(module)
    rules = grid(old.manifest, strength or (), rank_k or (), gate or ())
    out = out or (path := module.resolve()).with_name(f"{path.name}-calibrated")
    small = small_model or old.manifest.small_model.id
    words = sound_tokenizer("small_model", small)
    run.check_target(old, small, words, out)
    forgets = [example for example in read_examples(forget, words, "forget", max_length) if example.kind == "own"]
    retains = read_examples(retain, words, "retain", max_length)
    answers = logits or out.with_name(f"{out.name}.top{top_k}")
    if url is None and not answers.is_file():
        raise InvalidInput("logits", str(answers), "a recording that is there, or --url to make it")
    wanted = [*forgets, *retains]
    with progress_bars() as report:
        if url is not None and not answers.exists():
            record(url, model, wanted, words, answers, top_k, api_key=api_key, concurrency=concurrency, report=report)
        recording = Recording.open(answers)
        recording.check(wanted, words, model if url is not None else None)
        result = run.calibrate(
            old,
            rules,
            recording,
            forgets,
            retains,
            small_model=small,
            tokenizer=words,
            reference=reference,
            max_retain_loss=max_retain_loss,
            report=report,
        )
    Console().print(show.as_table(result))
    if plot is not None:
        show.plot(result, plot)
    made = run.write_calibrated(old, result, out, version or f"{old.manifest.version}-calibrated")
    if logits is None:
        answers.unlink()
    typer.echo(made.ref)
