"""What a comparison will do, and about how long each part takes."""

from __future__ import annotations

from rich.table import Table

from lethe_offsets.comparison.builds import MODELS
from lethe_offsets.comparison.comparison import Comparison

SHARES = {"forget01": 0.1, "forget05": 0.5, "forget10": 1.0}  # of forget10's records


def plan(comparison: Comparison, seeds: int, workers: int) -> Table:
    """A line for each kind of step: how many, how long one takes on one core, and how long all of them take.

    The seconds are those of ``Size.budget``; steps that are already there take none.
    """
    size, share = comparison.builds.size, SHARES[comparison.builds.split]
    trials = comparison.trials()
    direct = sum(trial.contender.kind == "direct" for trial in trials)
    counts: dict[str, int] = dict.fromkeys(comparison.needed(), 1)
    again = 2 * (seeds - 1)
    counts |= {"direct": direct, "offset": len(trials) - direct + again, "judged": len(comparison.contenders) + again}
    table = Table(title=f"Plan for {comparison.builds.split}", title_justify="left")
    for head in ("step", "how many", "seconds each", f"minutes, {workers} at once"):
        table.add_column(head, justify="right" if head != "step" else "left")
    total = 0.0
    for name, count in counts.items():
        each = size.budget.get(name, 0.0) * (1.0 if name in MODELS else 0.2 + 0.8 * share)
        total += (minutes := count * each / workers / 60)
        table.add_row(name, str(count), f"{each:.0f}", f"{minutes:.1f}")
    table.add_row("", "", "", f"{total:.0f}", style="bold")
    return table
