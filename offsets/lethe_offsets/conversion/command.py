"""``lethe convert``: a forget module from a fully fine-tuned small model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lethe_offsets import rule_options
from lethe_offsets.examples import Command
from lethe_offsets.rule_options import DEFAULT

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
EXAMPLES = r"""
lethe convert --tuned tuned --base Qwen/Qwen3-0.6B --rank 16 \
    --out modules/forget-marta
"""


@app.command(cls=Command, epilog=EXAMPLES)
def convert(
    tuned: Annotated[str, typer.Option(metavar="DIR_OR_NAME", help="The fine-tuned model.")],
    base: Annotated[str, typer.Option(metavar="DIR_OR_NAME", help="The small model it was tuned from.")],
    rank: Annotated[int, typer.Option(help="Rank of the adapter.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; nothing may be there yet.")],
    name: Annotated[str | None, typer.Option(help="Name of the module; default: the directory's.")] = None,
    lane: Annotated[Literal["plus", "minus"], typer.Option(help="The lane that the tuned model becomes.")] = "plus",
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Lines to compare logits on; default: the tuned model's own.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the text when there is no --text.")] = 0,
    ignore_other_weights: Annotated[
        bool, typer.Option("--ignore-other-weights", help="Leave changed embeddings, norms and biases behind.")
    ] = False,
    strength: rule_options.Strength = DEFAULT.strength,
    pin_special: rule_options.PinSpecial = DEFAULT.pin_special,
    plausibility: rule_options.Plausibility = DEFAULT.plausibility,
    clip: rule_options.Clip = DEFAULT.clip,
    mode: rule_options.Mode = DEFAULT.mode,
    rank_k: rule_options.RankK = DEFAULT.rank_k,
    gate: rule_options.Gate = DEFAULT.gate,
    description: Annotated[str, typer.Option(help="What is forgotten, in words.")] = "",
    version: Annotated[str, typer.Option(help="Version of the module.")] = "1",
    licence: Annotated[str, typer.Option(help="Licence of the tuned weights.")] = "unknown",
) -> None:
    """Make a module whose lane stands for a fully fine-tuned small model, by its weight difference cut to a rank.

    Prints what each rank up to this one leaves: how far the logits are from the tuned model's, the largest and the mean
    over a text. The last line, the whole difference, is what no rank can better. Only the module's reference goes to
    stdout.
    """
    rule = rule_options.rule_of(strength, pin_special, plausibility, clip, mode, rank_k, gate)
    from rich.console import Console  # imported with torch and transformers, which take seconds

    from lethe_offsets.conversion import convert as conversion
    from lethe_offsets.conversion.report import as_table
    from lethe_offsets.training.progress import progress_bars

    console = Console(stderr=True)
    with progress_bars(console) as report:
        module, errors = conversion.convert(
            tuned,
            base,
            rank=rank,
            out=out,
            name=name or out.name,
            lane=lane,
            rule=rule,
            text=text,
            seed=seed,
            ignore_other_weights=ignore_other_weights,
            version=version,
            description=description,
            licence=licence,
            report=report,
        )
    console.print(as_table(errors))
    typer.echo(module.ref)
