"""The comparison as a page of Markdown: how it was made, the table, and what it says."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

import torch

from lethe_offsets.comparison.builds import RETAINED, Builds
from lethe_offsets.comparison.judge import Row
from lethe_offsets.comparison.table import COLUMNS, markdown, spread, verdict
from lethe_offsets.pretraining.shape import Shape

NOTES = """\
Forget quality: the p-value of a two-sample Kolmogorov-Smirnov test on the forget set's truth ratios against Retrain's.
Utility: the harmonic mean of probability, ROUGE-L recall and truth ratio on the retain set; the models know nothing
else, so real authors and world facts are left out. Membership: the AUC of the loss, forget set against authors whom no
model has seen. Leak@{samples}: expected best ROUGE-L recall of {samples} answers at temperature 1, to {asked} questions
or fewer. Perplexity: of the greedy answers to the forget questions, under Target. Time: of the training that is shown,
on one core (processor time) or GPU; a module is trained beside the finished models.

Each method was trained at each of the rates {direct} (the large model itself) or {offset} (modules), on the forget set
and {retained} records of the retain set. The row is the rate, and for pairs the strength or k, whose forget answers'
probabilities are nearest to Retrain's among those that keep 95% of the retain answers' probability; if none does, the
one that keeps most. Nothing else was chosen. In `clean` rows the small model never saw the forget set.
"""


TOOK = """\
All of it took {models:.0f} minutes for the models, {trainings:.0f} for all trainings and the choice among them, and
{judging:.0f} for judging, {total:.0f} in all, on one core (processor time) or GPU.
"""


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds, as clocks are (see ``clock.py``), over all interruptions."""

    models: float
    trainings: float
    judging: float


def page(
    builds: Builds,
    rows: Sequence[Row],
    again: Sequence[Sequence[Row]],
    broken: Sequence[str],
    took: Took,
    command: str,
) -> str:
    """again: the runs of several seeds of a way of forgetting. broken: those of which no training came to an end."""
    size = builds.size
    notes = NOTES.format(
        samples=size.num_samples,
        asked=size.sampled,
        direct=_list(size.direct_rates),
        offset=_list(size.offset_rates),
        retained=size.retain_records,
    )
    parts = [
        f"# TOFU {builds.split}, models trained from nothing\n",
        f"    {command}\n",
        _setting(builds),
        markdown(rows),
        notes,
    ]
    if broken:
        parts.append(f"Not finite, or the retain score fell at once, at every rate: {', '.join(broken)}.\n")
    if again:
        parts.append("Further seeds of the two best, at the same rate and rule; mean (least to largest):\n")
        parts.append(_again(again))
    minutes = {name: seconds / 60 for name, seconds in asdict(took).items()}
    parts.append(TOOK.format(**minutes, total=sum(minutes.values())))
    return "\n".join([*parts, "\n".join(f"- {line}" for line in verdict(rows)), ""])


def _setting(builds: Builds) -> str:
    device = (
        torch.cuda.get_device_name() if builds.device == "cuda" else f"{os.cpu_count()} cores, {platform.machine()}"
    )
    large, small = (_shape(shape) for shape in (builds.size.large, builds.size.small))
    return (
        f"Lethe {version('lethe-server')}, torch {torch.__version__}, {device}. Large model: {large}. "
        f"Small model: {small}. Vocabulary {builds.size.vocabulary}. Retrain and clean small models: "
        f"{RETAINED[builds.split]}.\n"
    )


def _shape(shape: Shape) -> str:
    return f"Llama, {shape.layers} layers of {shape.hidden_size}, {shape.epochs} epochs"


def _again(runs: Sequence[Sequence[Row]]) -> str:
    lines = [["", "", *COLUMNS], ["---", "---", *["---:"] * len(COLUMNS)]]
    lines += [spread(own[0].title, own) for own in runs if own]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _list(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)
