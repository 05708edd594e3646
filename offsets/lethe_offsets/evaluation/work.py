"""Finished metrics, one file each, so that an interrupted evaluation goes on after the last of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lethe_offsets.digests import bytes_digest
from lethe_offsets.evaluation.metrics import Result
from lethe_offsets.writing import replacing

FOLDER = "work"


@dataclass(frozen=True, slots=True)
class Done:
    """A result, and the seconds it took."""

    result: Result
    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """The finished metrics below ``root``; of another model, other data or settings nothing is found."""

    root: Path

    def find(self, model: str, metric: str, facts: object) -> Done | None:
        """What was kept under the same ``facts`` (JSON)."""
        try:
            found = json.loads(self._file(model, metric).read_bytes())
            if found["facts"] == _digest(facts):
                return Done(Result(**found["result"]), found["seconds"])
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return None

    def keep(self, model: str, metric: str, facts: object, done: Done) -> None:
        """Raises InvalidInput for a folder that can't be written."""
        file = self._file(model, metric)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as draft:
            draft.write_text(json.dumps({"facts": _digest(facts), **asdict(done)}), encoding="utf-8")

    def _file(self, model: str, metric: str) -> Path:
        return self.root / FOLDER / model / f"{metric}.json"


def _digest(facts: object) -> str:
    return bytes_digest(json.dumps(facts, sort_keys=True).encode())
