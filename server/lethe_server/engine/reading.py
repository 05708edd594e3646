"""What an engine counted since it was last asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lethe_server.engine.tallies import Tally


@dataclass(frozen=True)
class Reading:
    """tallies: by vLLM's number of the adapter. slots_used: slots with an adapter that is in the engine, at the last
    step. slot_evictions: adapters that lost their slot to another one. models_s, pair_s: seconds since the last
    reading, None where a clock would not tell.
    """

    tallies: dict[int, Tally]
    slots_used: int
    slot_evictions: int
    models_s: float | None
    pair_s: float | None

    @classmethod
    def of(cls, said: dict[str, Any]) -> Reading:
        """said: what a worker's ``lethe_read`` gave."""
        return cls(**{**said, "tallies": {adapter: Tally.of(values) for adapter, values in said["tallies"]}})
