"""The comparison on one split: trials of every method, the choice among them, and what is judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from lethe_offsets.comparison.builds import MODELS, Builds, ModelName
from lethe_offsets.comparison.clock import clock_file, seconds, timed
from lethe_offsets.comparison.contenders import Contender
from lethe_offsets.comparison.judge import Candidate
from lethe_offsets.comparison.pool import Job
from lethe_offsets.comparison.trials import FAILED_FILE, POINTS, POINTS_FILE, Bench, Point, Trial, choose
from lethe_offsets.pair import Rule
from lethe_offsets.steps import Steps, digest
from lethe_offsets.training.progress import Report


@dataclass(frozen=True, slots=True)
class Comparison:
    """Survives pickling: jobs are its methods."""

    builds: Builds
    contenders: tuple[Contender, ...]

    def models(self) -> list[Job]:
        """Of ``needed``."""
        return [Job(name, partial(self.builds.model, name)) for name in self.needed()]

    def needed(self) -> list[ModelName]:
        """The models that the contenders need, the longest first; the target is there for all of them."""
        smalls = {contender.small for contender in self.contenders if contender.kind in ("offset", "pair")}
        return [name for name in MODELS if name in {"large", "retrained", *smalls}]

    def trials(self, seed: int = 0) -> list[Trial]:
        """Every training at each of its rates; contenders that share one come as one."""
        own = sorted((contender for contender in self.contenders if contender.method), key=lambda c: c.training)
        groups = [tuple(group) for _, group in groupby(own, key=lambda contender: contender.training)]
        groups.sort(key=lambda group: self.contenders.index(group[0]))
        return [self.trial(group, rate, seed) for group in groups for rate in self._rates(group[0])]

    def trial(self, group: Sequence[Contender], rate: float, seed: int) -> Trial:
        """The training that a group of contenders shares."""
        size = self.builds.size
        return Trial.plan(group, size.direct if group[0].kind == "direct" else size.offset, rate, seed)

    def attempt(self, trial: Trial, report: Report) -> None:
        """Train, and measure how each rule does."""
        steps, bench, recipe = Steps(self.builds.place / "trials"), self.bench(), self._recipe(trial)

        def train(out: Path) -> None:
            with timed(self._clock(trial), self.builds.device):
                trial.train(bench, out, report)

        trained = steps.run(trial.name, recipe, train)
        rules = [dataclasses.asdict(rule) for rule in trial.rules]
        measured = [recipe, self.builds.recipe("retrained"), rules, bench.scored]

        def measure(out: Path) -> None:
            with timed(self._clock(trial, _points(trial)), self.builds.device):
                trial.measure(bench, trained, out)

        steps.run(_points(trial), measured, measure)

    def chosen(self, contender: Contender, trials: Iterable[Trial], before: float) -> Candidate | None:
        """The trial and the rule that stand for a contender; None for a model, or where every training broke down.

        before: the target's mean probability of the retain answers.
        """
        found = [
            (trial, point)
            for trial in trials
            if contender.method and trial.contender.training == contender.training
            for point in self._points(trial)
            if point.rule in contender.rules(trial.config.rule)
        ]
        best = choose([point for _, point in found], before)
        return next((self._candidate(contender, trial, own.rule) for trial, own in found if own is best), None)

    def again(self, candidate: Candidate, seed: int) -> Trial:
        """A candidate's training with another seed."""
        return self.trial([candidate.contender], candidate.rate or 0.0, seed)

    def repeated(self, candidate: Candidate, trial: Trial) -> Candidate:
        """What is to be judged of such a training, once it has ended."""
        return self._candidate(candidate.contender, trial, candidate.rule)

    def seconds(self, trials: Iterable[Trial]) -> float:
        """How long these trainings took, and measuring what came of them."""
        return sum(seconds(self._clock(trial, step)) for trial in trials for step in (trial.name, _points(trial)))

    def sound(self, candidate: Candidate) -> bool:
        """Whether its training came to an end."""
        return not (candidate.trained / FAILED_FILE).exists()

    def _candidate(self, contender: Contender, trial: Trial, rule: Rule | None) -> Candidate:
        return Candidate(
            contender=contender,
            name=contender.name if trial.config.seed == 0 else f"{contender.name}-seed{trial.config.seed}",
            trained=self.builds.place / "trials" / trial.name,
            identity=self._recipe(trial),
            seconds=seconds(self._clock(trial)),
            rate=trial.config.learning_rate,
            rule=rule,
        )

    def bench(self) -> Bench:
        """What every trial has in common."""
        builds, sets = self.builds, self.builds.place / "sets"
        return Bench(
            large=builds.path("large"),
            smalls={"small": builds.path("small"), "clean": builds.path("clean")},
            retrained=builds.path("retrained"),
            forget_set=sets / "forget.jsonl",
            retain_set=sets / "retain.jsonl",
            scored=builds.size.scored,
            device=builds.device,
        )

    def _rates(self, contender: Contender) -> tuple[float, ...]:
        size = self.builds.size
        return size.direct_rates if contender.kind == "direct" else size.offset_rates

    def _points(self, trial: Trial) -> list[Point]:
        folder = self.builds.place / "trials" / _points(trial)
        return POINTS.validate_json((folder / POINTS_FILE).read_bytes())

    def _recipe(self, trial: Trial) -> str:
        models = [self.builds.recipe("large")]
        if trial.contender.kind != "direct":
            models.append(self.builds.recipe(trial.contender.small))
        return digest([models, self.builds.sets_recipe(), trial.config.model_dump(mode="json")])

    def _clock(self, trial: Trial, step: str | None = None) -> Path:
        return clock_file(self.builds.place, step or trial.name, self._recipe(trial))


def _points(trial: Trial) -> str:
    return f"{trial.name}-points"
