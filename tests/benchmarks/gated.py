"""What a gate does to what modules forget and keep: rows of a finished ``lethe reproduce tofu``, judged again.

    python tests/benchmarks/gated.py --tofu TOFU --out DIR --row offset-npo --row clean-pair-linear --table gated.md

DIR is that of the comparison, whose modules are judged under several gates, and at lower strengths in their place, by
the metrics of its table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Change:
    """Of one field of a row's rule; a strength is multiplied."""

    field: str
    value: float

    def name(self, row: str) -> str:
        return f"{row}-{self.field}{self.value:g}"

    def title(self, row: str) -> str:
        return f"{row}, {self.value:g} of the strength" if self.field == "strength" else f"{row}, gate {self.value:g}"

    def rule(self, rule: Rule) -> Rule:
        return replace(rule, **{self.field: self.value * (rule.strength if self.field == "strength" else 1.0)})


def changed(comparison: Comparison, name: str, change: Change) -> Candidate:
    (contender,) = (one for one in comparison.contenders if one.name == name)
    row = read_row(comparison.builds, name)
    trial = comparison.trial([contender], row.rate or 0.0, 0)
    return Candidate(
        contender=contender,
        name=change.name(name),
        trained=comparison.builds.place / "trials" / trial.name,
        identity=trial.name,
        seconds=row.seconds,
        rate=row.rate,
        rule=change.rule(row.rule or Rule()),
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
    changes = [Change("gate", float(each)) for each in gate.split(",")]
    changes += [Change("strength", float(each)) for each in strength.split(",")]
    candidates = [changed(comparison, name, change) for name in row for change in changes]
    with Pool(jobs, Console()) as pool:
        pool.run("judged", [Job(one.name, partial(judge, builds, one)) for one in candidates])
    retrain = read_row(builds, "retrain")
    rows = [shown(builds, name, name.title(), retrain) for name in ("target", "retrain")]
    for name in row:
        title = read_row(builds, name).title
        rows.append(shown(builds, name, f"{title}, as it was", retrain))
        rows += [shown(builds, change.name(name), change.title(title), retrain) for change in changes]
    machine = "\n".join(listed())
    table.write_text(f"{INTRODUCTION}{markdown(rows)}\n{machine}\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(run)
