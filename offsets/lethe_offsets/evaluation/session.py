"""An evaluation on a terminal: models opened, progress shown, results written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation.assembly import Options
from lethe_offsets.evaluation.metrics import Metric, Result, Settings
from lethe_offsets.evaluation.outcome import About, Data, Measured, Outcome
from lethe_offsets.evaluation.report.page import write_report
from lethe_offsets.evaluation.run import Evaluation
from lethe_offsets.evaluation.sets import Sets
from lethe_offsets.evaluation.show import as_table
from lethe_offsets.evaluation.tofu.forget_quality import forget_ratios
from lethe_offsets.evaluation.tofu.reference import Reference
from lethe_offsets.evaluation.work import Work
from lethe_offsets.sums import EVAL_FILE
from lethe_offsets.training.progress import progress_bars
from lethe_offsets.writing import replacing, writing


@dataclass(frozen=True, slots=True)
class Session:
    """reference: a file to compare with. write_reference: where to write one. into: a module's directory."""

    options: Options
    sets: Sets
    metrics: Sequence[Metric]
    settings: Settings
    reference: Path | None
    write_reference: Path | None
    into: Path | None
    out: Path

    def run(self, console: Console | None = None) -> Outcome | None:
        """Measure, write and show; None where only a reference was wanted. Raises as its parts do."""
        reference = Reference.read(self.reference) if self.reference is not None else None
        if reference is not None:
            reference.check(self.sets)
        self._check()
        with writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        models, about = self.options.open()
        evaluation = Evaluation(models, self.sets, self.metrics, self.settings, reference)
        with progress_bars() as report:
            found = evaluation.run(Work(self.out), report)
        if self.write_reference is not None:
            self._reference(found["retrained"]).write(self.write_reference)
        if "module" not in models:
            return None
        outcome = self._outcome(found, about, reference)
        self._write(outcome)
        (console or Console()).print(as_table(outcome))
        return outcome

    def _check(self) -> None:
        """What would only be found out at the end."""
        if self.write_reference is None:
            return
        if self.options.retrained is None or self.sets.split is None:
            accepted = "together with --retrained and --tofu: a reference is a retrained model's on a split"
            raise InvalidInput("write-reference", str(self.write_reference), accepted)
        if "truth_ratio" not in {metric.name for metric in self.metrics}:
            raise InvalidInput("metrics", [metric.name for metric in self.metrics], "truth_ratio among them")

    def _reference(self, retrained: Measured) -> Reference:
        ratios = forget_ratios(Result({}, retrained.items["truth_ratio"]))
        return Reference(
            split=str(self.sets.split),
            data=self.sets.forget_digest,
            model=retrained.identity,
            log_truth_ratios=tuple(ratios),
        )

    def _outcome(self, found: dict[str, Measured], about: About, reference: Reference | None) -> Outcome:
        sizes = {name: len(items) for name, items in self.sets.by_name().items()}
        compared = reference.model if reference is not None else None
        if compared is None and "retrained" in found:
            compared = found["retrained"].identity
        return Outcome(
            lethe=version("lethe-server"),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            where=self.options.url or "in process",
            about=about,
            data=Data(split=self.sets.split, digest=self.sets.digest, sizes=sizes),
            settings=self.settings,
            reference=compared,
            models=found,
        )

    def _write(self, outcome: Outcome) -> None:
        outcome.write(self.out)
        write_report(self.out)
        if self.into is not None:
            with replacing(self.into / EVAL_FILE, "module") as draft:
                draft.write_text(outcome.scores_json(), encoding="utf-8")
