"""``lethe merge``: several forget modules as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lethe_offsets.examples import Command
from lethe_offsets.merging.settings import MergeSettings, Method

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
EXAMPLES = r"""
lethe merge modules/a modules/b --method regression --out modules/ab

lethe merge modules/a modules/b --method ties_svd --density 0.3 --rank 16 \
    --out modules/ab
"""


@app.command(cls=Command, epilog=EXAMPLES)
def merge(
    modules: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Modules, two or more.")],
    method: Annotated[Literal[Method, "dare"], typer.Option(help="How; see above.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; nothing may be there yet.")],
    name: Annotated[str | None, typer.Option(help="Name of the module; default: the directory's.")] = None,
    weight: Annotated[
        list[float] | None, typer.Option(help="Weight of each module in their order, 1 by default; repeatable.")
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="Share of the weights that ties and dare keep; default 0.5.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="Rank for svd and regression; default: the largest of the modules'.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws what dare drops.")] = 0,
    rule_from: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The module whose rule counts where rules differ.")
    ] = None,
    strength: Annotated[float | None, typer.Option(help="Factor on the merged offset; default: the modules'.")] = None,
    description: Annotated[
        str | None, typer.Option(help="What is forgotten, in words; default: the modules' own words.")
    ] = None,
    version: Annotated[str, typer.Option(help="Version of the module.")] = "1",
) -> None:
    """Merge forget modules of one small model, one rule and the same lanes into one; no model is needed.

    regression answers each module's own inputs most as that module does (arXiv 2310.20150). It needs the inner products
    of the layers' inputs beside each module, which 'lethe module inputs' writes while the forget set is at hand. Start
    here: over ten requests in a row on the demo's world it forgot all and kept 94 to 100% of the other answers.

    cat sums the weight differences exactly, at a rank that is the sum of the ranks (--max-module-rank of the server).
    What each module forgets stays forgotten, but what it harms adds up as well: fit for two or three modules.

    svd is that sum, cut to --rank. Weights below 1 harm less and forget less; at 1/n each module is diluted to a part
    of its strength, which is soon too little.

    linear adds A to A and B to B, so that mixed products count too: quick, and too rough for more than two.

    ties and dare drop small or random weights before they add up; ties also drops those against the majority's sign and
    takes the mean of the rest. Little is harmed, but not all stays forgotten. By themselves they work on A and B, with
    _svd on the whole difference. dare is dare_linear.
    """
    from rich.console import Console  # imported with torch and peft, which take seconds

    from lethe_offsets.merging.agreement import choose_rule
    from lethe_offsets.merging.merge import merge_modules
    from lethe_offsets.module import Module
    from lethe_offsets.training.progress import progress_bars

    settings = MergeSettings(
        "dare_linear" if method == "dare" else method, tuple(weight) if weight else None, density, rank, seed
    )
    opened = [Module.open(directory) for directory in modules]
    rule = choose_rule(opened, Module.open(rule_from) if rule_from else None, strength)
    with progress_bars(Console(stderr=True)) as report:
        merged = merge_modules(
            opened,
            settings,
            name=name or out.name,
            out=out,
            rule=rule,
            version=version,
            description=description,
            report=report,
        )
    typer.echo(merged.ref)
