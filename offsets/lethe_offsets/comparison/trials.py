"""Trials: one training of one method at one rate, and how each rule does with what came of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter
from torch import Tensor

from lethe_offsets.comparison.contenders import Contender
from lethe_offsets.comparison.direct import tune_directly
from lethe_offsets.comparison.probability import probabilities
from lethe_offsets.errors import InvalidInput
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, read_examples
from lethe_offsets.training.logits import model_logits
from lethe_offsets.training.methods import default_settings, load_method
from lethe_offsets.training.progress import Report
from lethe_offsets.training.recipe import train_module
from lethe_offsets.training.reference import load_lanes, load_model, load_tokenizer, special_ids

MAX_RETAIN_LOSS = 0.05
FAILED_FILE, POINTS_FILE = "failed.txt", "points.json"


class Point(BaseModel):
    """A trial under one rule, on samples of both sets.

    forget, retain: mean answer probability. distance: mean difference of the forget answers' from Retrain's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: float
    rule: Rule
    forget: float
    retain: float
    distance: float


POINTS: TypeAdapter[list[Point]] = TypeAdapter(list[Point])


@dataclass(frozen=True, slots=True)
class Bench:
    """What every trial of a split has in common. forget_set, retain_set: files of JSON lines."""

    large: Path
    smalls: dict[str, Path]
    retrained: Path
    forget_set: Path
    retain_set: Path
    scored: int
    device: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A contender's training; where several share one, ``rules`` are those of all."""

    contender: Contender
    config: TrainingConfig
    rules: tuple[Rule, ...]

    @classmethod
    def plan(cls, contenders: Sequence[Contender], knobs: dict[str, Any], rate: float, seed: int) -> Trial:
        """The training that ``contenders`` share; ``knobs`` that the method doesn't take are left out."""
        first = contenders[0]
        takes = default_settings(first.method)
        own = {key: value for key, value in knobs.items() if key in takes}
        config = load_method(first.method, None, own | {"learning_rate": rate, "seed": seed})
        return cls(first, config, tuple(rule for contender in contenders for rule in contender.rules(config.rule)))

    @property
    def name(self) -> str:
        return f"{self.contender.training}-{self.config.learning_rate:g}-seed{self.config.seed}"

    def train(self, bench: Bench, out: Path, report: Report) -> None:
        """A module, or a model's directory, at ``out``; a file that says why where the training broke down."""
        sets = bench.forget_set, bench.retain_set
        try:
            if self.contender.kind == "direct":
                tune_directly(self.config, bench.large, *sets, out, bench.device, report)
                return
            train_module(
                self.config,
                name=self.contender.training.replace("_", "-"),
                large_model=bench.large,
                small_model=bench.smalls[self.contender.small],
                forget_set=sets[0],
                retain_set=sets[1],
                out=out,
                device=bench.device,
                report=report,
            )
        except (FloatingPointError, InvalidInput) as err:
            if isinstance(err, InvalidInput) and err.field != "learning_rate":
                raise
            shutil.rmtree(out.with_name(f"{out.name}.training"), ignore_errors=True)
            out.mkdir()
            (out / FAILED_FILE).write_text(f"{err}\n", encoding="utf-8")

    def measure(self, bench: Bench, trained: Path, out: Path) -> None:
        """A point for each rule, in ``points.json``; none where the training broke down."""
        out.mkdir(parents=True)
        points = [] if (trained / FAILED_FILE).exists() else self._points(bench, trained)
        (out / POINTS_FILE).write_bytes(POINTS.dump_json(points, indent=1))

    def _points(self, bench: Bench, trained: Path) -> list[Point]:
        words = load_tokenizer(bench.large)
        forget, retain = (sample(file, words, bench.scored) for file in (bench.forget_set, bench.retain_set))
        wanted = probabilities(forget, model_logits(load_model(bench.retrained, bench.device)))[0]
        found = self._probabilities(bench, trained, [*forget, *retain])
        return [
            Point(
                rate=self.config.learning_rate,
                rule=rule,
                forget=float(row[: len(forget)].mean()),
                retain=float(row[len(forget) :].mean()),
                distance=float((row[: len(forget)] - wanted).abs().mean()),
            )
            for rule, row in zip(self.rules, found, strict=True)
        ]

    def _probabilities(self, bench: Bench, trained: Path, examples: list[Example]) -> Tensor:
        if self.contender.kind == "direct":
            return probabilities(examples, model_logits(load_model(trained, bench.device)), rules=self.rules)
        module, large = Module.open(trained), load_model(bench.large, bench.device)
        small = bench.smalls[self.contender.small]
        plus, minus = (
            model_logits(lane.to(bench.device))  # type: ignore[arg-type]
            for lane in load_lanes(small, module)
        )
        pinned = special_ids(large, load_tokenizer(bench.large))
        return probabilities(examples, model_logits(large), (plus, minus), self.rules, pinned)


def sample(file: Path, words: Any, count: int) -> list[Example]:
    """``count`` examples of a set, evenly spaced."""
    examples = read_examples(file, words, "retain", 1024)
    return examples[:: max(1, len(examples) // count)][:count]


def choose(points: Sequence[Point], before: float) -> Point | None:
    """The point whose forget answers are nearest to Retrain's, of those that keep 95% of ``before``.

    before: the target's mean probability of the retain answers. Where none keeps as much, the one that keeps most;
    None without any. Every method is chosen alike, and by probabilities only: what the table shows is measured
    afterwards.
    """
    kept = [point for point in points if point.retain >= (1.0 - MAX_RETAIN_LOSS) * before]
    if kept:
        return min(kept, key=lambda point: point.distance)
    return max(points, key=lambda point: point.retain, default=None)
