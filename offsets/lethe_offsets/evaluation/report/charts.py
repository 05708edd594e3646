"""Charts as inline SVG: text stays text, and equal numbers give equal bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from lethe_offsets.evaluation.outcome import Outcome
from lethe_offsets.evaluation.report.measures import NAMES, ORDER, numbers

COLOURS = {"target": "#b0721c", "module": "#1f5fa8", "retrained": "#777777"}
MARKERS = {"target": "s", "module": "o", "retrained": "D"}
DASHES = {"target": "--", "module": "-", "retrained": ":"}
SIZE = (4.4, 3.3)  # inches; on a narrow screen about as large as on paper
BINS = 30
RATIO = "log_ratio"


def trade_off(outcome: Outcome) -> str | None:
    """Each model by the probability of the forgotten answers and of those to keep; None where one is missing."""
    known = numbers(outcome)
    gone, kept = known.get("probability.forget", {}), known.get("probability.retain", {})
    models = [name for name in ORDER if name in gone and name in kept]
    if "module" not in models:
        return None
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    for name in models:
        axes.scatter([gone[name]], [kept[name]], s=80, marker=MARKERS[name], color=COLOURS[name], label=NAMES[name])
    axes.set(
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
        xlabel="probability of forgotten answers",
        ylabel="probability of answers to keep",
    )
    axes.grid(alpha=0.25)
    return _svg(figure)


def truth_ratios(outcome: Outcome) -> str | None:
    """How the truth ratios of the forget set are distributed in each model; None without them."""
    ratios = {
        name: found
        for name in ORDER
        if name in outcome.models and (found := _ratios(outcome.models[name].items.get("truth_ratio", [])))
    }
    if "module" not in ratios:
        return None
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    every = sorted(value for found in ratios.values() for value in found)
    low, high = every[len(every) // 200], every[-1 - len(every) // 200]
    edges = [low + (high - low or 1.0) * step / BINS for step in range(BINS + 1)]
    for name, found in ratios.items():
        shares, weights = [max(low, min(high, value)) for value in found], [1.0 / len(found)] * len(found)
        axes.hist(
            shares,
            bins=edges,
            weights=weights,
            histtype="step",
            linewidth=1.8,
            linestyle=DASHES[name],
            color=COLOURS[name],
            label=NAMES[name],
        )
    axes.axvline(0.0, color="0.8", linewidth=1.0, zorder=0)
    axes.set(xlabel="log of the truth ratio", ylabel="share of questions")
    return _svg(figure)


def _ratios(items: Sequence[Mapping[str, object]]) -> list[float]:
    found = [float(str(item[RATIO])) for item in items if item.get("set") == "forget" and RATIO in item]
    return [value for value in found if math.isfinite(value)]


def _svg(figure: Figure) -> str:
    figure.legend(loc="outside upper center", ncols=len(ORDER), frameon=False, handlelength=1.4, columnspacing=1.0)
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "lethe", "font.family": "sans-serif", "font.size": 10}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return text.getvalue()[text.getvalue().index("<svg") :]  # without the XML declaration, which HTML doesn't know
