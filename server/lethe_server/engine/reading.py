"""What the engine counted since it was last asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lethe_server.engine.tallies import Tally


@dataclass(frozen=True)
class Reading:
    """tallies: by vLLM's number of the adapter. slots_used: slots with an adapter that is in the engine, at the last
    step; the most of any engine. slot_evictions: adapters that lost their slot to another one. models_s, pair_s:
    seconds since the last reading, None where a clock would not tell.
    """

    tallies: dict[int, Tally]
    slots_used: int
    slot_evictions: int
    models_s: float | None
    pair_s: float | None

    @classmethod
    def of(cls, said: Sequence[dict[str, Any]]) -> Reading:
        """said: what ``lethe_read`` gave on one worker of each engine."""
        tallies: dict[int, Tally] = {}
        for engine in said:
            for adapter, values in engine["tallies"]:
                tally = Tally.of(values)
                tallies[adapter] = tallies[adapter] + tally if adapter in tallies else tally
        return cls(
            tallies,
            slots_used=max(engine["slots_used"] for engine in said),
            slot_evictions=sum(engine["slot_evictions"] for engine in said),
            models_s=_total(engine["models_s"] for engine in said),
            pair_s=_total(engine["pair_s"] for engine in said),
        )


def _total(seconds: Iterable[float | None]) -> float | None:
    found = [value for value in seconds if value is not None]
    return sum(found) if found else None
