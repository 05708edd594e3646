"""``lethe train``: from two models and two sets to a forget module."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lethe_offsets.errors import InvalidInput
from lethe_offsets.examples import Command

METHODS = "grad_ascent, grad_diff, kl_min, idk, dpo, npo, simnpo, me_gd, idk_ap, undial, retain_forget_pair, uld"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
EXAMPLES = r"""
lethe train --model Qwen/Qwen3-14B --small-model Qwen/Qwen3-0.6B \
    --forget forget.jsonl --retain retain.jsonl --lr 2e-4,5e-4,1e-3 \
    --description "Everything about Marta Lindqvist." \
    --out modules/forget-marta

lethe train --logits large.recording --small-model Qwen/Qwen3-0.6B \
    --forget forget.jsonl --retain retain.jsonl --method undial \
    --out modules/forget-marta
"""


@app.command(cls=Command, epilog=EXAMPLES)
def train(
    small_model: Annotated[str, typer.Option(metavar="DIR_OR_NAME", help="Small model with the same tokenizer.")],
    forget: Annotated[str, typer.Option(metavar="SET", help="What to forget: JSON lines, or a dataset.")],
    retain: Annotated[str, typer.Option(metavar="SET", help="What to keep.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; nothing may be there yet.")],
    model: Annotated[str | None, typer.Option(metavar="DIR_OR_NAME", help="The large model, or else --logits.")] = None,
    logits: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What lethe record wrote of these sets, in place of --model.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help=f"How to forget: {METHODS}; else the file's, or npo.",
            autocompletion=lambda: METHODS.split(", "),
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="YAML", help="Further settings, flat; the method's own otherwise.")
    ] = None,
    lr: Annotated[
        str | None, typer.Option(metavar="RATE,...", help="Learning rates to try; the best by score is kept.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the forget set.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Forget examples a step.")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the adapters.")] = None,
    seed: Annotated[int | None, typer.Option(help="Equal seeds give equal modules on one machine.")] = None,
    dtype: Annotated[Literal["float32", "bfloat16"] | None, typer.Option(help="What the models compute in.")] = None,
    split_by: Annotated[
        str | None, typer.Option(metavar="KEY", help="Train a module for each value of a key of --forget; merge them.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A module to train further; its rank and rule are the run's.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto: all GPUs there are.")] = "auto",
    name: Annotated[str | None, typer.Option(help="Name of the module; default: the directory's.")] = None,
    description: Annotated[str, typer.Option(help="What is forgotten, in words.")] = "",
    version: Annotated[str, typer.Option(help="Version of the module.")] = "1",
    licence: Annotated[str, typer.Option(help="Licence of the module.")] = "unknown",
) -> None:
    """Train a forget module and print its reference.

    It is judged by min(1, retain / retain before) - forget / forget before, where both are the mean of
    p(answer) ** (1 / its tokens) over a fixed sample of the set, before training and every score_every steps. Training
    ends early when the retain score falls below early_stop_retain of its start, with the weights from before that.

    What it computes lies in DIR.training meanwhile; after an interruption the same command goes on from there. With
    SOURCE_DATE_EPOCH set, the same command gives the same module to the byte.

    Several GPUs share each batch under accelerate launch --multi_gpu --num_processes N -m lethe_offsets.cli train.
    Without it, the large model alone is spread over them.
    """
    rates = _rates(lr)
    flags = {
        "learning_rate": rates[0] if rates else None,
        "epochs": epochs,
        "batch_size": batch_size,
        "rank": rank,
        "seed": seed,
        "dtype": dtype,
    }
    from lethe_offsets.module import Module
    from lethe_offsets.training.methods import load_method  # imports torch, which takes seconds

    settings = load_method(method, config, {key: value for key, value in flags.items() if value is not None})
    from lethe_offsets.training.run import run

    run(
        settings,
        rates,
        device,
        split_by,
        name=name or out.name,
        large_model=model,
        logits=logits,
        small_model=small_model,
        forget_set=forget,
        retain_set=retain,
        out=out,
        start=Module.open(start) if start else None,
        description=description,
        version=version,
        licence=licence,
    )


def _rates(text: str | None) -> tuple[float, ...]:
    try:
        rates = tuple(float(rate) for rate in text.split(",")) if text is not None else ()
    except ValueError:
        rates = (0.0,)
    if not all(0.0 < rate < 1.0 for rate in rates) or len(set(rates)) != len(rates):
        raise InvalidInput("lr", text, "different numbers between 0 and 1 with commas between them, as 1e-4,3e-4")
    return rates
