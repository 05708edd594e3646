"""What a gate does to what modules forget and keep: rows of a finished ``lethe reproduce tofu``, judged again.

    python tests/benchmarks/gated.py --tofu TOFU --out DIR --row offset-npo --row clean-pair-linear --table gated.md

DIR is that of the comparison, whose modules are judged under several gates, at lower strengths in their place, and
under gates that are held open, by the metrics of its table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from held import judge_held
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

HELD_GATE = 1.0  # nats
INTRODUCTION = """\
# Gates on TOFU {split}

Modules of `lethe reproduce tofu --split {split}` under gates: positions where KL(plus || minus) is smaller keep the
large model's logits. {more}Target and Retrain first. The columns are explained in [tofu/{split}.md](tofu/{split}.md).

"""
STRENGTHS = "Beside them the same modules at a lower strength, which keeps more too. "
HELD = """Held ones open at 1 nat and stay open within the answer until KL is below
the second number; the engine has none such. """


@dataclass(frozen=True)
class Change:
    """Of one field of a row's rule; a strength is multiplied. held: the gate is HELD_GATE, and closes at this share."""

    field: str
    value: float

    def name(self, row: str) -> str:
        return f"{row}-{self.field}{self.value:g}"

    def title(self, row: str) -> str:
        if self.field == "held":
            return f"{row}, gate {HELD_GATE:g} held to {self.value * HELD_GATE:g}"
        return f"{row}, {self.value:g} of the strength" if self.field == "strength" else f"{row}, gate {self.value:g}"

    def rule(self, rule: Rule) -> Rule:
        if self.field == "held":
            return replace(rule, gate=HELD_GATE)
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


def job(builds: Builds, candidate: Candidate, change: Change) -> Job:
    if change.field == "held":
        return Job(candidate.name, partial(judge_held, builds, candidate, change.value))
    return Job(candidate.name, partial(judge, builds, candidate))


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
    held: Annotated[str, typer.Option(help="Shares of 1 nat down to which gates are held open.")] = "",
    split: Annotated[str, typer.Option(help="The comparison's.")] = "forget10",
    jobs: Annotated[int, typer.Option(help="Rows at once, each on one core.")] = 2,
) -> None:
    builds = Builds(tofu.resolve(), out.resolve(), SIZES["mini"], split)
    comparison = Comparison(builds, choose_contenders(None))
    wanted = {"gate": gate, "held": held, "strength": strength}
    changes = [Change(field, float(each)) for field, values in wanted.items() for each in values.split(",") if each]
    with Pool(jobs, Console()) as pool:
        pool.run(
            "judged", [job(builds, changed(comparison, name, change), change) for name in row for change in changes]
        )
    retrain = read_row(builds, "retrain")
    rows = [shown(builds, name, name.title(), retrain) for name in ("target", "retrain")]
    for name in row:
        title = read_row(builds, name).title
        rows.append(shown(builds, name, f"{title}, as it was", retrain))
        rows += [shown(builds, change.name(name), change.title(title), retrain) for change in changes]
    machine = "\n".join(listed())
    more = (STRENGTHS if strength else "") + (HELD if held else "")
    introduction = INTRODUCTION.format(split=split, more=more)
    table.write_text(f"{introduction}{markdown(rows)}\n{machine}\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(run)
