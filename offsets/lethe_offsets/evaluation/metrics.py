"""What a metric is, what it works on, and all of them by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from lethe_offsets.errors import InvalidInput, LetheError
from lethe_offsets.evaluation.encode import encode_pair, encode_prompt
from lethe_offsets.evaluation.memory import Memory
from lethe_offsets.evaluation.models import Judged, Pair, Scored
from lethe_offsets.evaluation.sets import Item, Sets
from lethe_offsets.training.progress import Report, silent

NEEDS: dict[str, str] = {  # and how each is given
    "tofu": "TOFU's perturbed answers (--tofu)",
    "retain": "a retain set (--retain or --tofu)",
    "holdout": "records that no model has seen (--holdout or --tofu)",
    "reference": "a retain model's truth ratios (--reference)",
    "module": "a module to be judged",
    "target": "the target model beside the judged one",
    "retrained": "a retrained model (--retrained)",
    "whole": "whole distributions: in process, or vLLM's --max-logprobs -1",
    "pair": "a module in process (--large, --small, --module)",
    "endpoint": "a server (--url)",
}


class Settings(BaseModel):
    """What metrics can be told; part of what a finished result is found again by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int = Field(default=200, ge=1, description="Longest answer, in tokens.")
    num_samples: int = Field(default=100, ge=1, le=1000, description="Answers drawn to each question, for Leak@K.")
    seed: int = Field(default=0, description="Draws whatever is drawn.")


@dataclass(frozen=True, slots=True)
class Result:
    """summary: numbers by name. items: what they were made of, one entry for each question or so."""

    summary: dict[str, float]
    items: list[dict[str, JsonValue]] = field(default_factory=list)

    @classmethod
    def of_sets(cls, items: list[dict[str, JsonValue]]) -> Result:
        """The mean ``value`` of each ``set``, in the order in which they come."""
        values: dict[str, list[float]] = {}
        for item in items:
            values.setdefault(str(item["set"]), []).append(float(str(item["value"])))
        return cls({name: fmean(each) for name, each in values.items()}, items)


@dataclass(frozen=True, slots=True)
class World:
    """What a metric works on.

    judged: the model to be measured. models: it and those beside it, by name. truth_ratios: the reference's.
    results: of the metrics of this model that are done, by name. memory: of this model.
    """

    judged: Judged
    models: Mapping[str, Judged]
    sets: Sets
    settings: Settings = field(default_factory=Settings)
    truth_ratios: Sequence[float] | None = None
    results: Mapping[str, Result] = field(default_factory=dict)
    report: Report = silent
    memory: Memory = field(default_factory=Memory)

    def score(self, pairs: Sequence[Pair], whole: bool = False) -> list[Scored]:
        """As ``Judged.score`` of the judged model, each pair once for all metrics."""
        return self.memory.score(self.judged, pairs, whole, self.report)

    def answer(self, prompts: Sequence[list[int]]) -> list[str]:
        """The judged model's most probable answers, each once for all metrics."""
        return self.memory.answer(self.judged, prompts, self.settings.max_tokens, self.report)

    def prompts(self, items: Iterable[Item]) -> list[list[int]]:
        """Each item's question as token ids."""
        return [encode_prompt(self.judged.tokenizer, item.question, item.before) for item in items]

    def pairs(self, items: Iterable[Item]) -> list[Pair]:
        """Each item's question with its answer as token ids."""
        return [encode_pair(self.judged.tokenizer, item.question, item.answer, item.before) for item in items]


class NotApplicable(LetheError):
    """A metric says nothing about this model; the text says why, and stands in the report in place of numbers."""


class Metric(Protocol):
    """One measurement of one model.

    needs: names of ``NEEDS``, and of metrics whose results it reads; without one of them it is left out, and the
    report says so. group: what ``--metrics`` may choose it by, besides its name.
    """

    @property
    def name(self) -> str: ...

    @property
    def group(self) -> str: ...

    @property
    def needs(self) -> frozenset[str]: ...

    def run(self, world: World) -> Result:
        """Raises NotApplicable where it says nothing about the judged model."""
        ...


def all_metrics() -> tuple[Metric, ...]:
    """Every metric, each after those that it needs."""
    from lethe_offsets.evaluation.axes import AXES
    from lethe_offsets.evaluation.tofu import TOFU

    return (*TOFU, *AXES)


def chosen(names: str, metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics whose name or group is in ``names``, separated by commas, with those that they need.

    Raises InvalidInput for a name that is neither.
    """
    wanted = {name.strip() for name in names.split(",")}
    known = {metric.group for metric in metrics} | {metric.name for metric in metrics}
    if unknown := wanted - known:
        raise InvalidInput("metrics", ", ".join(sorted(unknown)), ", ".join(sorted(known)))
    found: list[Metric] = []
    for metric in reversed(metrics):
        if {metric.name, metric.group} & wanted:
            found.append(metric)
            wanted |= metric.needs - NEEDS.keys()
    return tuple(reversed(found))
