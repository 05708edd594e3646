"""A record must not be forgotten and retained at once."""

from __future__ import annotations

from collections.abc import Sequence

from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.records import Record

SHOWN = 3


def check_disjoint(forget: Sequence[Record], retain: Sequence[Record]) -> None:
    """Raise InvalidInput, naming the first of them, for records in both sets; white space makes no difference."""
    forgotten = {_said(record): number for number, record in enumerate(forget, start=1)}
    both = [
        f"record {number} is record {forgotten[said]} of the forget set, {said[-1][1][:60]!r}"
        for number, said in enumerate(map(_said, retain), start=1)
        if said in forgotten
    ]
    if both:
        more = f", and {len(both) - SHOWN} more" if len(both) > SHOWN else ""
        raise InvalidInput("retain set", "; ".join(both[:SHOWN]) + more, "no record of the forget set")


def _said(record: Record) -> tuple[tuple[str, str], ...]:
    if record.text is not None:
        return (("text", " ".join(record.text.split())),)
    return tuple((turn.role, " ".join(turn.content.split())) for turn in record.chat())
