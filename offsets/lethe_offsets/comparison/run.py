"""The whole comparison: models, trials, the choice among them, what is judged, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from lethe_offsets.comparison.builds import Builds, ModelName
from lethe_offsets.comparison.comparison import Comparison
from lethe_offsets.comparison.contenders import RETRAIN, TARGET, Contender
from lethe_offsets.comparison.judge import Candidate, Row, judge, read_row
from lethe_offsets.comparison.page import page
from lethe_offsets.comparison.plan import plan
from lethe_offsets.comparison.pool import Job, Pool
from lethe_offsets.comparison.probability import probabilities
from lethe_offsets.comparison.table import ranked, terminal, verdict
from lethe_offsets.comparison.trials import Trial, sample
from lethe_offsets.evaluation.tofu.forget_quality import compare
from lethe_offsets.training.logits import model_logits
from lethe_offsets.training.reference import load_model, load_tokenizer
from lethe_offsets.writing import replacing

BEST = 2  # ways of forgetting that are trained with several seeds
TABLE_FILE = "table.md"


def reproduce(
    builds: Builds, contenders: tuple[Contender, ...], seeds: int, workers: int, command: str, console: Console
) -> Path:
    """Everything for one split, printed and written to ``table.md`` in the split's folder; its path.

    An interrupted run goes on where it was. seeds: of the two best ways of forgetting. command: how this was called.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]  # of loading weights
    comparison = Comparison(builds, contenders)
    console.print(plan(comparison, seeds, workers))
    with Pool(workers, console) as pool:
        rows, repeated = _measure(comparison, seeds, pool)
    console.print(terminal(rows, f"TOFU {builds.split}"))
    for line in verdict(rows):
        console.print(line)
    broken = [contender.title for contender in contenders if contender.name not in {row.name for row in rows}]
    with replacing(out := builds.place / TABLE_FILE) as draft:
        draft.write_text(page(builds, rows, repeated, broken, command), encoding="utf-8")
    return out


def _measure(comparison: Comparison, seeds: int, pool: Pool) -> tuple[list[Row], list[list[Row]]]:
    """A row for each contender, and those of the two best over all seeds."""
    builds = comparison.builds
    builds.tokenizer()
    builds.sets()
    pool.run("models", comparison.models())
    trials = comparison.trials()
    pool.run("trainings", _attempts(comparison, trials))
    before = _retain_probability(comparison)
    chosen = [found for one in comparison.contenders if (found := comparison.chosen(one, trials, before))]
    rows = _judge(builds, [*_models(builds), *chosen], pool)
    if seeds == 1:
        return rows, []
    best = [next(one for one in chosen if one.name == row.name) for row in ranked(rows)[:BEST]]
    further = _repeat(comparison, best, rows[1], seeds, pool)
    return rows, [[row for row in rows if row.name == one.name] + further[one.name] for one in best]


def _attempts(comparison: Comparison, trials: Sequence[Trial]) -> list[Job]:
    return [Job(trial.name, partial(comparison.attempt, trial)) for trial in trials]


def _models(builds: Builds) -> list[Candidate]:
    """Target and Retrain."""
    found: list[tuple[Contender, ModelName]] = [(TARGET, "large"), (RETRAIN, "retrained")]
    return [Candidate(one, one.name, builds.path(m), builds.recipe(m), builds.seconds(m)) for one, m in found]


def _judge(builds: Builds, candidates: Sequence[Candidate], pool: Pool) -> list[Row]:
    """Target's and Retrain's rows are the first; forget quality compares all with Retrain."""
    pool.run("judged", [Job(one.name, partial(judge, builds, one)) for one in candidates])
    rows = [read_row(builds, one.name) for one in candidates]
    return [_compared(row, rows[1]) for row in rows]


def _compared(row: Row, retrain: Row) -> Row:
    return row.model_copy(update={"numbers": row.numbers | compare(row.truth_ratios, retrain.truth_ratios)})


def _repeat(
    comparison: Comparison, best: Sequence[Candidate], retrain: Row, seeds: int, pool: Pool
) -> dict[str, list[Row]]:
    """The same trainings with further seeds, under the rules that were chosen; their rows by name."""
    again = [(one, comparison.again(one, seed)) for one in best for seed in range(1, seeds)]
    pool.run("further seeds", _attempts(comparison, [trial for _, trial in again]))
    sound = [done for one, trial in again if comparison.sound(done := comparison.repeated(one, trial))]
    pool.run("judged", [Job(one.name, partial(judge, comparison.builds, one)) for one in sound])
    found: dict[str, list[Row]] = {one.name: [] for one in best}
    for one in sound:
        found[one.contender.name].append(_compared(read_row(comparison.builds, one.name), retrain))
    return found


def _retain_probability(comparison: Comparison) -> float:
    """The target's, on the sample that trials are chosen by."""
    bench = comparison.bench()
    examples = sample(bench.retain_set, load_tokenizer(bench.large), bench.scored)
    return float(probabilities(examples, model_logits(load_model(bench.large, bench.device))).mean())
