"""The logit error of each rank as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from lethe_offsets.conversion.logit_error import RankError


def as_table(errors: Sequence[RankError]) -> Table:
    """One row for each rank; errors in nats."""
    table = Table("rank", "squared difference kept", "mean logit error", "largest logit error")
    for error in errors:
        rank = "whole" if error.rank is None else str(error.rank)
        table.add_row(rank, f"{error.kept:.4%}", f"{error.mean:.3g}", f"{error.largest:.3g}")
    return table
