"""Build steps that are done once: each has a directory, and a mark of what it was built from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MARKS_DIR = "steps"


def default_cache_dir() -> Path:
    """``lethe/demo`` in the user's cache directory: XDG_CACHE_HOME, LOCALAPPDATA on Windows, else ``~/.cache``."""
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "lethe" / "demo"


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps below ``root``. fresh: build them all again."""

    root: Path
    fresh: bool = False

    def run(self, name: str, recipe: object, build: Callable[[Path], object]) -> Path:
        """The directory of step ``name``, built unless it is already there from the same ``recipe`` (JSON).

        ``build`` fills a directory that doesn't exist yet; only a finished one is marked. ``build`` may leave
        ``<directory>.*`` beside it to go on from after an interruption; those of another recipe are removed.
        """
        out, mark = self.root / name, self.root / MARKS_DIR / f"{name}.json"
        wanted = {"recipe": digest(recipe), "done": True}
        found = _read(mark)
        if found == wanted and out.is_dir() and not self.fresh:
            return out
        if found.get("recipe") != wanted["recipe"] or self.fresh:
            for leftover in self.root.glob(f"{name}.*"):
                shutil.rmtree(leftover)
        shutil.rmtree(out, ignore_errors=True)
        _write(mark, wanted | {"done": False})
        build(out)
        _write(mark, wanted)
        return out


def digest(recipe: object) -> str:
    """Digest of what a step is built from."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _read(mark: Path) -> dict[str, object]:
    try:
        return dict(json.loads(mark.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _write(mark: Path, content: dict[str, object]) -> None:
    mark.parent.mkdir(parents=True, exist_ok=True)
    draft = mark.with_suffix(".draft")
    draft.write_text(json.dumps(content), encoding="utf-8")
    os.replace(draft, mark)
