"""What the table says of a contender, measured by the metrics of ``lethe eval``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from lethe_offsets.comparison.builds import Builds
from lethe_offsets.comparison.clock import clock_file, seconds, timed
from lethe_offsets.comparison.contenders import Contender
from lethe_offsets.evaluation.axes.asking import spread
from lethe_offsets.evaluation.local import Local
from lethe_offsets.evaluation.metrics import Result, Settings, World, all_metrics
from lethe_offsets.evaluation.tofu.data import read_tofu
from lethe_offsets.evaluation.tofu.forget_quality import forget_ratios
from lethe_offsets.evaluation.tofu.utility import PARTS, harmonic_mean
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.steps import Steps, digest
from lethe_offsets.training.progress import Report

RECIPE = 1  # to be raised when metrics measure something else than before
METRICS = (*PARTS, "plain", "extraction", "membership", "leak", "fluency")
HAS = frozenset({"tofu", "retain", "holdout", "target"})
ROW_FILE = "row.json"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is judged: a model's directory, or a module with a rule. identity: what tells it from any other."""

    contender: Contender
    name: str
    trained: Path
    identity: str
    seconds: float
    rate: float | None = None
    rule: Rule | None = None


class Row(BaseModel):
    """A line of the table. numbers: by metric; what could not be measured is not there.

    truth_ratios: logarithms, of the forget set's items. parameters: how many were trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    kind: str
    rate: float | None
    rule: Rule | None
    seconds: float
    parameters: int
    numbers: dict[str, float]
    truth_ratios: tuple[float, ...]


def judge(builds: Builds, candidate: Candidate, report: Report) -> None:
    """Measure, unless it has been done."""

    def build(out: Path) -> None:
        with timed(_clock(builds, candidate), builds.device):
            row = _measure(builds, candidate, report)
        out.mkdir(parents=True)
        (out / ROW_FILE).write_text(row.model_dump_json(indent=1) + "\n", encoding="utf-8")

    Steps(builds.place / "judged").run(candidate.name, _recipe(builds, candidate), build)


def judging_seconds(builds: Builds, candidate: Candidate) -> float:
    """How long it took."""
    return seconds(_clock(builds, candidate))


def _recipe(builds: Builds, candidate: Candidate) -> list[object]:
    size = builds.size
    asked = [size.sampled, size.num_samples, size.max_tokens]
    return [RECIPE, candidate.identity, candidate.rule and dataclasses.asdict(candidate.rule), asked]


def _clock(builds: Builds, candidate: Candidate) -> Path:
    return clock_file(builds.place, f"judged-{candidate.name}", digest(_recipe(builds, candidate)))


def read_row(builds: Builds, name: str) -> Row:
    """What ``judge`` found of the candidate of this name."""
    return Row.model_validate_json((builds.place / "judged" / name / ROW_FILE).read_bytes())


def _measure(builds: Builds, candidate: Candidate, report: Report) -> Row:
    target = Local.of_model("target", builds.path("large"), builds.device)
    judged, parameters = _open(builds, candidate, target)
    results = _run(builds, judged, target, report)
    return Row(
        name=candidate.name,
        title=candidate.contender.title,
        kind=candidate.contender.kind,
        rate=candidate.rate,
        rule=candidate.rule,
        seconds=candidate.seconds,
        parameters=parameters,
        numbers=numbers_of(results),
        truth_ratios=tuple(forget_ratios(results["truth_ratio"])),
    )


def _open(builds: Builds, candidate: Candidate, target: Local) -> tuple[Local, int]:
    """The candidate and how many of its parameters were trained."""
    if candidate.contender.kind in ("model", "direct"):
        model = Local.of_model("module", candidate.trained, builds.device)
        return model, sum(weight.numel() for weight in model.ensemble.large.parameters())
    module = Module.open(candidate.trained)
    judged = Local.of_module("module", target, builds.path(candidate.contender.small), module)
    if candidate.rule is not None:
        ensemble = dataclasses.replace(judged.ensemble, rule=candidate.rule)
        judged = dataclasses.replace(judged, ensemble=ensemble, identity=f"{judged.identity} {candidate.rule}")
    adapters = module.adapters().values()
    return judged, sum(pair.a.numel() + pair.b.numel() for lane in adapters for pair in lane.pairs.values())


def _run(builds: Builds, judged: Local, target: Local, report: Report) -> dict[str, Result]:
    sets = read_tofu(builds.tofu, builds.split)
    # Models that have learned TOFU alone know neither real authors nor the world.
    sets = dataclasses.replace(sets, real_authors=(), world_facts=())
    size = builds.size
    world = World(
        judged=judged,
        models={"module": judged, "target": target},
        sets=sets,
        settings=Settings(max_tokens=size.max_tokens, num_samples=size.num_samples),
        report=report,
    )
    results: dict[str, Result] = {}
    for metric in all_metrics():
        if metric.name in METRICS and metric.needs <= HAS | results.keys():
            few = dataclasses.replace(sets, forget=tuple(spread(sets.forget, size.sampled)))
            asked = few if metric.name == "leak" else sets
            results[metric.name] = metric.run(dataclasses.replace(world, sets=asked, results=dict(results)))
    return results


def numbers_of(results: dict[str, Result]) -> dict[str, float]:
    """The numbers of the table by ``metric.number``, and the utility over the retain set's three."""
    found = {f"{name}.{key}": value for name, result in results.items() for key, value in result.summary.items()}
    found["utility"] = harmonic_mean([results[part].summary["retain"] for part in PARTS])
    return found
