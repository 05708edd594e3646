"""What a gate does to what modules forget and keep: rows of a finished ``lethe reproduce tofu``, judged again.

    python tests/benchmarks/gated.py --tofu TOFU --out DIR --row offset-npo --row clean-pair-linear --table gated.md

DIR is that of the comparison, whose modules are judged under several gates, and at lower strengths in their place, by
the metrics of its table.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lethe_offsets.comparison.builds import Builds
from lethe_offsets.comparison.comparison import Comparison
from lethe_offsets.comparison.contenders import choose_contenders
from lethe_offsets.comparison.judge import Candidate, Row, judge, read_row
from lethe_offsets.comparison.pool import Job, Pool
from lethe_offsets.comparison.sizes import SIZES
from lethe_offsets.comparison.table import markdown
from lethe_offsets.evaluation.tofu.forget_quality import compare
from lethe_offsets.pair import Rule
from lethe_server.bench.machine import listed

SPLIT = "forget10"
INTRODUCTION = f"""\
# Gates on TOFU {SPLIT}

Modules of `lethe reproduce tofu --split {SPLIT}` under gates: positions where KL(plus || minus) is smaller keep the
large model's logits. Beside them the same modules at a lower strength, which keeps more too. Target and Retrain first.
The columns are explained in [tofu/{SPLIT}.md](tofu/{SPLIT}.md).

"""


def changed(comparison: Comparison, name: str, field: str, value: float) -> Candidate:
    """The row's module with one field of its rule changed; a strength by that factor."""
    (contender,) = (one for one in comparison.contenders if one.name == name)
    row = read_row(comparison.builds, name)
    trial = comparison.trial([contender], row.rate or 0.0, 0)
    rule = row.rule or Rule()
    return Candidate(
        contender=contender,
        name=f"{name}-{field}{value:g}",
        trained=comparison.builds.place / "trials" / trial.name,
        identity=trial.name,
        seconds=row.seconds,
        rate=row.rate,
        rule=dataclasses.replace(rule, **{field: value * rule.strength if field == "strength" else value}),
    )


def shown(builds: Builds, name: str, title: str, retrain: Row) -> Row:
    row = read_row(builds, name)
    return row.model_copy(
        update={"title": title, "numbers": row.numbers | compare(row.truth_ratios, retrain.truth_ratios)}
    )


def run(
    tofu: Annotated[Path, typer.Option(help="TOFU's folder.")],
    out: Annotated[Path, typer.Option(help="The folder of the finished comparison.")],
    row: Annotated[list[str], typer.Option(help="Name of a row's folder under judged/; repeatable.")],
    table: Annotated[Path, typer.Option(help="The table, as Markdown.")],
    gate: Annotated[str, typer.Option(help="Nats, with commas.")] = "0.3,1,3",
    strength: Annotated[str, typer.Option(help="Factors on the rows' strengths, with commas.")] = "0.8",
    jobs: Annotated[int, typer.Option(help="Rows at once, each on one core.")] = 2,
) -> None:
    builds = Builds(tofu.resolve(), out.resolve(), SIZES["mini"], SPLIT)
    comparison = Comparison(builds, choose_contenders(None))
    changes = [
        (field, float(each)) for field, given in (("gate", gate), ("strength", strength)) for each in given.split(",")
    ]
    candidates = [changed(comparison, name, *change) for name in row for change in changes]
    with Pool(jobs, Console()) as pool:
        pool.run("judged", [Job(one.name, partial(judge, builds, one)) for one in candidates])
    retrain = read_row(builds, "retrain")
    rows = [shown(builds, name, name.title(), retrain) for name in ("target", "retrain")]
    for name in row:
        title = read_row(builds, name).title
        rows.append(shown(builds, name, f"{title}, as it was", retrain))
        rows += [
            shown(
                builds,
                f"{name}-{field}{value:g}",
                f"{title}, {field} {value:g}{' times' * (field == 'strength')}",
                retrain,
            )
            for field, value in changes
        ]
    machine = "\n".join(listed())
    table.write_text(f"{INTRODUCTION}{markdown(rows)}\n{machine}\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(run)
