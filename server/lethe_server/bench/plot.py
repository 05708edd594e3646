"""``bench.png``: plain vLLM, the bound and Lethe by concurrency, one panel for each ratio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lethe_server.bench.summary import LETHE, LOOP, PROCESSOR, Row

COLOURS = ("#1b6ca8", "#d1742c", "#4f8a4b", "#8a4f7d")
MARKS = {PROCESSOR: "x", LOOP: "+"}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Ratios of tokens/s and of decode steps to plain vLLM's; one colour for each prompt length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ratios = sorted({row.ratio for row in rows})
    figure, panels = pyplot.subplots(
        2, len(ratios), figsize=(1.5 + 4 * len(ratios), 7.5), sharex=True, sharey="row", squeeze=False
    )
    for column, ratio in enumerate(ratios):
        mine = [row for row in rows if row.ratio == ratio]
        _steps(panels[0][column], mine)
        _speeds(panels[1][column], mine)
        panels[0][column].set_title(f"large : small = {ratio} : 1")
        panels[1][column].set_xlabel("concurrent requests")
    panels[0][0].set_ylabel("decode step, plain vLLM = 1")
    panels[1][0].set_ylabel("output tokens/s, plain vLLM = 1")
    for axes in panels.flat:
        axes.axhline(1.0, color="black", linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        marks = sorted({row.cell.concurrency for row in rows})
        axes.set_xticks(marks, [str(mark) for mark in marks])
    for row_of_panels in panels:
        row_of_panels[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _prompts(rows: Sequence[Row]) -> list[tuple[int, str]]:
    lengths = sorted({row.cell.prompt for row in rows})
    return [(length, COLOURS[i % len(COLOURS)]) for i, length in enumerate(lengths)]


def _line(axes: Any, points: Sequence[tuple[int, float | None]], **style: Any) -> None:
    known = [(x, y) for x, y in points if y is not None]
    if known:
        axes.plot(*zip(*known, strict=True), **style)


def _steps(axes: Any, rows: Sequence[Row]) -> None:
    for length, colour in _prompts(rows):
        mine = [row for row in rows if row.cell.prompt == length and row.system == LETHE]
        bounds = [(row.cell.concurrency, row.bound) for row in mine]
        steps = [(row.cell.concurrency, row.step_to_plain) for row in mine]
        _line(axes, bounds, color=colour, linestyle="--", linewidth=1.2, label=f"bound, prompts of {length}")
        _line(axes, steps, color=colour, marker="o", markersize=4, label=f"Lethe, prompts of {length}")


def _speeds(axes: Any, rows: Sequence[Row]) -> None:
    for length, colour in _prompts(rows):
        for system, mark in {LETHE: "o", **MARKS}.items():
            mine = [row for row in rows if row.cell.prompt == length and row.system == system]
            points = [(row.cell.concurrency, row.to_plain) for row in mine]
            style = "-" if system == LETHE else ":"
            label = f"{system}, {length}" if points else None
            _line(axes, points, color=colour, marker=mark, markersize=5, linestyle=style, label=label)
