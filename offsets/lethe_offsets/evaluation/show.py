"""An outcome as a table on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lethe_offsets.evaluation.outcome import Outcome

ORDER = ("module", "target", "retrained")


def as_table(outcome: Outcome) -> RenderableType:
    """One row for each number, one column for each model; below it, what is left out of the judged one and why."""
    names = [name for name in ORDER if name in outcome.models]
    table = Table("metric", *names, title=outcome.about.ref, title_justify="left")
    for metric, key in _rows(outcome):
        values = [outcome.models[name].summary.get(metric, {}).get(key) for name in names]
        label = metric if metric == key else f"{metric} {key}"
        table.add_row(label, *("" if value is None else f"{value:.4g}" for value in values))
    left_out = outcome.models["module"].left_out.items()
    return Group(table, *(Text(f"left out: {name}: {reason}") for name, reason in left_out))


def _rows(outcome: Outcome) -> Iterator[tuple[str, str]]:
    seen = dict.fromkeys(
        (metric, key)
        for name in ORDER
        if name in outcome.models
        for metric, summary in outcome.models[name].summary.items()
        for key in summary
    )
    yield from seen
