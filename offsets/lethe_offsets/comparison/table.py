"""The comparison as a table, in Markdown and on a terminal, and what it says of the claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table

from lethe_offsets.comparison.judge import Row

FORGOTTEN = 0.05  # a forget quality above it: the test doesn't tell the model from Retrain
KEPT = 0.95  # share of the target's utility

Cell = Callable[[Row], float | None]


def _number(name: str) -> Cell:
    return lambda row: row.numbers.get(name)


COLUMNS: dict[str, tuple[Cell, str]] = {
    "forget quality": (_number("forget_quality"), ".2g"),
    "utility": (_number("utility"), ".3f"),
    "forget ROUGE-L": (_number("rouge.forget"), ".3f"),
    "forget probability": (_number("probability.forget"), ".3f"),
    "extraction strength": (_number("extraction.strength"), ".3f"),
    "membership AUC": (_number("membership.loss"), ".3f"),
    "Leak@100": (_number("leak.rouge_100"), ".3f"),
    "perplexity": (_number("fluency.perplexity"), ".3g"),
    "trained parameters": (lambda row: row.parameters, ",.0f"),
    "training s": (lambda row: row.seconds, ".0f"),
}
MISSING = "-"


def cells(row: Row) -> list[str]:
    """The row's title, its settings, and a cell for each column."""
    return [row.title, settings(row), *(_shown(cell(row), form) for cell, form in COLUMNS.values())]


def settings(row: Row) -> str:
    """The learning rate and, where it was chosen, the rule."""
    if row.rate is None:
        return ""
    rule = row.rule
    if row.kind != "pair" or rule is None:
        return f"{row.rate:g}"
    return f"{row.rate:g}, " + (f"k {rule.rank_k}" if rule.mode == "rank" else f"strength {rule.strength:g}")


def markdown(rows: Sequence[Row]) -> str:
    heads = ["", "rate", *COLUMNS]
    lines = [heads, ["---", "---", *["---:"] * len(COLUMNS)], *map(cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def terminal(rows: Sequence[Row], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for place, head in enumerate(("", "rate", *COLUMNS)):
        table.add_column(head, justify="left" if place < 2 else "right")
    for row in rows:
        style = "bold green" if _holds(row, rows) and row.kind != "model" else None
        table.add_row(*cells(row), style=style)
    return table


def spread(title: str, runs: Sequence[Row]) -> list[str]:
    """One row over several seeds: mean, and from the least to the largest."""
    found = [title, f"{len(runs)} seeds"]
    for cell, form in COLUMNS.values():
        values = [value for run in runs if (value := cell(run)) is not None]
        if not values:
            found.append(MISSING)
            continue
        low, mean, high = (format(value, form) for value in (min(values), sum(values) / len(values), max(values)))
        found.append(mean if low == high else f"{mean} ({low} to {high})")
    return found


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Every way of forgetting, the best first: those that keep the utility, by forget quality."""
    own = [row for row in rows if row.kind != "model"]
    return sorted(own, key=lambda row: (_utility(row, rows) >= KEPT, _quality(row)), reverse=True)


def verdict(rows: Sequence[Row]) -> list[str]:
    """The claim, part by part, and whether these rows bear it out."""
    lines = []
    target = next(row for row in rows if row.name == "target")
    if _quality(target) > FORGOTTEN:
        lines.append(f"Too few questions: forget quality can't even tell Target from Retrain ({_quality(target):.2g}).")
    for kind, name in (("offset", "An offset method"), ("pair", "A pair")):
        holding = [row.title for row in rows if row.kind == kind and _holds(row, rows)]
        found = f"yes: {'; '.join(holding)}" if holding else "no"
        lines.append(f"{name} with forget quality above {FORGOTTEN:g} and at least {KEPT:.0%} of the utility: {found}.")
    bearing = [row for row in rows if row.kind in ("offset", "pair") and _holds(row, rows)]
    better = [
        f"{one.title} than {row.title}"
        for row in bearing
        for one in rows
        if one.kind == "direct" and _quality(one) > _quality(row) and _utility(one, rows) > _utility(row, rows)
    ]
    if bearing:
        lines.append(f"Direct fine-tuning that is better on both: {'; '.join(better) or 'none'}.")
    return lines


def _holds(row: Row, rows: Sequence[Row]) -> bool:
    return _quality(row) > FORGOTTEN and _utility(row, rows) >= KEPT


def _quality(row: Row) -> float:
    return row.numbers["forget_quality"]


def _utility(row: Row, rows: Sequence[Row]) -> float:
    """As a share of the target's."""
    target = next(one for one in rows if one.name == "target").numbers["utility"]
    return row.numbers["utility"] / target if target else 0.0


def _shown(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)
