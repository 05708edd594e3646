"""Results as they come, one JSON line each; a run that was interrupted goes on from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lethe_offsets.errors import InvalidInput


@dataclass(frozen=True)
class Key:
    """What a result is about. stage: ``cell``, ``steps``, ``modules``, ``start``, ``memory`` or ``profile``."""

    stage: str
    system: str
    ratio: int = 0
    concurrency: int = 0
    prompt: int = 0
    turn: int = 0


class Store:
    """The results in ``path``. header: the settings and the machine.

    Raises InvalidInput when the file holds results of other settings, another machine or another version.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.header = json.loads(json.dumps(header))
        self._results: dict[Key, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = list(_whole_lines(path))
        if lines and lines[0] != self.header:
            different = [name for name in self.header if lines[0].get(name) != self.header[name]]
            accepted = f"a folder without results, or --fresh; these have another {' and '.join(different)}"
            raise InvalidInput("out", str(path.parent), accepted)
        for line in lines[1:]:
            value = line.pop("value")
            self._results[Key(**line)] = value
        if not lines:
            self._append(self.header)

    def __contains__(self, key: Key) -> bool:
        return key in self._results

    def get(self, key: Key) -> Any:
        """The result, None when there is none."""
        return self._results.get(key)

    def add(self, key: Key, value: Any) -> None:
        self._results[key] = value
        self._append({**asdict(key), "value": value})

    def keys(self, stage: str) -> list[Key]:
        return [key for key in self._results if key.stage == stage]

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _whole_lines(path: Path) -> Iterator[Any]:
    """The file's lines; one that was cut off in writing is cut off the file."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    yield from map(json.loads, whole.splitlines())
