"""Every chosen metric of every model, each once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from lethe_offsets.evaluation.endpoint import Served
from lethe_offsets.evaluation.local import Local
from lethe_offsets.evaluation.memory import Memory
from lethe_offsets.evaluation.metrics import NEEDS, Metric, NotApplicable, Result, Settings, World
from lethe_offsets.evaluation.models import Judged
from lethe_offsets.evaluation.outcome import Measured
from lethe_offsets.evaluation.sets import Sets
from lethe_offsets.evaluation.tofu.forget_quality import forget_ratios
from lethe_offsets.evaluation.tofu.reference import Reference
from lethe_offsets.evaluation.work import Done, Work
from lethe_offsets.training.progress import Report, silent

MODELS = ("retrained", "target", "module")  # in the order in which they are measured


@dataclass(frozen=True, slots=True)
class Evaluation:
    """models: by name, of ``MODELS``. reference: what forget quality compares with; else the retrained model's."""

    models: Mapping[str, Judged]
    sets: Sets
    metrics: Sequence[Metric]
    settings: Settings = field(default_factory=Settings)
    reference: Reference | None = None

    def run(self, work: Work, report: Report = silent) -> dict[str, Measured]:
        """What each model measures, by name. Finished metrics are in ``work`` whatever happens later.

        Raises InvalidInput for a reference of other data, and as the metrics do.
        """
        if self.reference is not None:
            self.reference.check(self.sets)
        found: dict[str, Measured] = {}
        for name in (name for name in MODELS if name in self.models):
            found[name] = self._measure(name, self._ratios(found), work, report)
        return found

    def _ratios(self, found: Mapping[str, Measured]) -> Sequence[float] | None:
        if self.reference is not None:
            return self.reference.log_truth_ratios
        measured = found.get("retrained")
        if measured is None or "truth_ratio" not in measured.summary or self.sets.split is None:
            return None
        return forget_ratios(Result({}, measured.items["truth_ratio"]))

    def _measure(self, name: str, ratios: Sequence[float] | None, work: Work, report: Report) -> Measured:
        judged, memory = self.models[name], Memory()
        done, left_out = dict[str, Done](), dict[str, str]()
        for metric in self.metrics:
            if missing := sorted(metric.needs - self._has(judged, ratios) - done.keys()):
                left_out[metric.name] = _lacking(missing)
                continue
            world = World(
                judged=judged,
                models=self.models,
                sets=self.sets,
                settings=self.settings,
                truth_ratios=ratios,
                results={key: each.result for key, each in done.items()},
                report=_labelled(report, f"{name}: {metric.name}"),
                memory=memory,
            )
            try:
                done[metric.name] = self._once(metric, world, work)
            except NotApplicable as err:
                left_out[metric.name] = str(err)
        return Measured(
            identity=judged.identity,
            summary={key: each.result.summary for key, each in done.items()},
            left_out=left_out,
            seconds={key: each.seconds for key, each in done.items()},
            items={key: each.result.items for key, each in done.items()},
        )

    def _once(self, metric: Metric, world: World, work: Work) -> Done:
        facts = self._facts(metric, world)
        done = work.find(world.judged.name, metric.name, facts)
        if done is None:
            start = time.monotonic()
            result = metric.run(world)
            done = Done(result, round(time.monotonic() - start, 3))
            work.keep(world.judged.name, metric.name, facts, done)
        world.report("done", 1, 1)
        return done

    def _facts(self, metric: Metric, world: World) -> dict[str, object]:
        """What a result depends on."""
        beside = {name: judged.identity for name, judged in self.models.items() if name in metric.needs}
        return {
            "model": world.judged.identity,
            "beside": beside,
            "data": self.sets.digest,
            "settings": self.settings.model_dump(),
            "ratios": list(world.truth_ratios or ()) if "reference" in metric.needs else None,
            "lethe": version("lethe-server"),
        }

    def _has(self, judged: Judged, ratios: Sequence[float] | None) -> set[str]:
        """What there is of ``NEEDS`` for this model."""
        there = {
            "tofu": self.sets.split is not None,
            "retain": bool(self.sets.retain),
            "holdout": bool(self.sets.holdout),
            "reference": ratios is not None,
            **{name: name in self.models for name in MODELS},
            "whole": judged.whole if isinstance(judged, Served) else True,
            "pair": isinstance(judged, Local) and judged.ensemble.plus is not None,
            "endpoint": isinstance(judged, Served),
        }
        return {name for name, given in there.items() if given}


def _lacking(missing: Iterable[str]) -> str:
    """Why a metric is left out."""
    return "needs " + "; ".join(NEEDS.get(name) or f"{name}, which is left out" for name in missing)


def _labelled(report: Report, label: str) -> Report:
    """One bar for a metric, whatever it says of its parts."""
    return lambda part, done, total, note="": report(label, done, total, note or part)
