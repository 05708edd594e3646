"""A calibration as a table and as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from lethe_offsets.calibration.grid import Point
from lethe_offsets.calibration.run import Calibration
from lethe_offsets.errors import InvalidInput


def as_table(result: Calibration) -> Table:
    """One row for each rule, the chosen one marked."""
    headings = ["rule", "forget", "retain"] + ["distance"] * (result.before.distance is not None)
    table = Table(*headings, title="Probability of the answers", title_justify="left")
    table.caption = "p ** (1 / tokens), the mean over answers; distance: of the forget answers from the reference's"
    for point in (result.before, *result.points):
        style = "bold green" if point is result.chosen else None
        table.add_row("no module" if point is result.before else _name(point), *_numbers(point), style=style)
    return table


def plot(result: Calibration, out: Path) -> None:
    """Write a picture of both probabilities over the grid. Raises InvalidInput for a path that can't be written."""
    from matplotlib.figure import Figure  # a second to import

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    places = range(len(result.points) + 1)
    points = (result.before, *result.points)
    for label in ("forget", "retain", "distance"):
        values = [getattr(point, label) for point in points]
        if None not in values:
            axes.plot(places, values, marker="o", label=label)
    axes.axvline(points.index(result.chosen), color="gray", linewidth=0.8)
    axes.set_xticks(places, ["no module", *map(_name, result.points)], rotation=45, ha="right")
    axes.set_ylabel("probability of the answers")
    axes.set_ylim(0.0, 1.0)
    axes.legend()
    try:
        figure.savefig(out)
    except (OSError, ValueError) as err:  # ValueError: no such format
        raise InvalidInput("plot", str(out), f"a picture that can be written, such as grid.png ({err})") from err


def _name(point: Point) -> str:
    rule = point.rule
    name = f"rank {rule.rank_k}" if rule.mode == "rank" else f"strength {rule.strength:g}"
    return f"{name}, gate {rule.gate:g}" if rule.gate else name


def _numbers(point: Point) -> Iterator[str]:
    numbers = (point.forget, point.retain, point.distance)
    return (f"{number:.4f}" for number in numbers if number is not None)
