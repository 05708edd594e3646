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
from lethe_offsets.comparison.judge import Candidate, Row, judge, judging_seconds, read_row
from lethe_offsets.comparison.page import Took, page
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
    with Pool(workers, builds.device, console) as pool:
        rows, repeated, took = _measure(comparison, seeds, pool)
    console.print(terminal(rows, f"TOFU {builds.split}"))
    for line in verdict(rows):
        console.print(line)
    broken = [contender.title for contender in contenders if contender.name not in {row.name for row in rows}]
    with replacing(out := builds.place / TABLE_FILE) as draft:
        draft.write_text(page(builds, rows, repeated, broken, took, command), encoding="utf-8")
    return out


def _measure(comparison: Comparison, seeds: int, pool: Pool) -> tuple[list[Row], list[list[Row]], Took]:
    """A row for each contender, those of the two best over all seeds, and how long it all took."""
    builds = comparison.builds
    builds.tokenizer()
    builds.sets()
    pool.run("models", comparison.models())
    trials = comparison.trials()
    pool.run("trainings", _attempts(comparison, trials))
    before = _retain_probability(comparison)
    chosen = [found for one in comparison.contenders if (found := comparison.chosen(one, trials, before))]
    judged = [*_models(builds), *chosen]
    measured = _judge(builds, judged, pool)
    retrain = measured[1]  # Target's comes before it, all others after
    rows = [_compared(row, retrain) for row in measured]
    again: list[list[Row]] = []
    if seeds > 1:
        best = [next(one for one in chosen if one.name == row.name) for row in ranked(rows)[:BEST]]
        further = [(one, comparison.again(one, seed)) for one in best for seed in range(1, seeds)]
        repeated = _repeat(comparison, further, pool)
        seeds_of = {one.name: [row for row in rows if row.name == one.name] for one in best}
        for one, row in zip(repeated, _judge(builds, repeated, pool), strict=True):
            seeds_of[one.contender.name].append(_compared(row, retrain))
        again = [*seeds_of.values()]
        trials += [trial for _, trial in further]
        judged += repeated
    return rows, again, _took(comparison, trials, judged)


def _attempts(comparison: Comparison, trials: Sequence[Trial]) -> list[Job]:
    return [Job(trial.name, partial(comparison.attempt, trial)) for trial in trials]


def _models(builds: Builds) -> list[Candidate]:
    """Target and Retrain."""
    found: list[tuple[Contender, ModelName]] = [(TARGET, "large"), (RETRAIN, "retrained")]
    return [Candidate(one, one.name, builds.path(m), builds.recipe(m), builds.seconds(m)) for one, m in found]


def _judge(builds: Builds, candidates: Sequence[Candidate], pool: Pool) -> list[Row]:
    pool.run("judged", [Job(one.name, partial(judge, builds, one)) for one in candidates])
    return [read_row(builds, one.name) for one in candidates]


def _compared(row: Row, retrain: Row) -> Row:
    """With its forget quality, which compares it with Retrain."""
    return row.model_copy(update={"numbers": row.numbers | compare(row.truth_ratios, retrain.truth_ratios)})


def _repeat(comparison: Comparison, again: Sequence[tuple[Candidate, Trial]], pool: Pool) -> list[Candidate]:
    """The same trainings with further seeds, under the rules that were chosen; those that came to an end."""
    pool.run("further seeds", _attempts(comparison, [trial for _, trial in again]))
    return [done for one, trial in again if comparison.sound(done := comparison.repeated(one, trial))]


def _took(comparison: Comparison, trials: Sequence[Trial], judged: Sequence[Candidate]) -> Took:
    builds = comparison.builds
    return Took(
        models=sum(builds.seconds(name) for name in comparison.needed()),
        trainings=comparison.seconds(trials),
        judging=sum(judging_seconds(builds, one) for one in judged),
    )


def _retain_probability(comparison: Comparison) -> float:
    """The target's, on the sample that trials are chosen by."""
    bench = comparison.bench()
    examples = sample(bench.retain_set, load_tokenizer(bench.large), bench.scored)
    return float(probabilities(examples, model_logits(load_model(bench.large, bench.device))).mean())
