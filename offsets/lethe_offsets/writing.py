"""Writing so that what is seen is whole, and a disk without room costs nothing that was there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from lethe_offsets.errors import InvalidInput


@contextmanager
def writing(path: Path, field: str = "out") -> Iterator[None]:
    """Raises InvalidInput, naming ``path``, where the block can't write, as on a full disk."""
    try:
        yield
    except (OSError, SafetensorError) as err:
        raise InvalidInput(field, str(path), f"a path that can be written, in a place with room ({err})") from err


@contextmanager
def replacing(path: Path, field: str = "out") -> Iterator[Path]:
    """A draft beside ``path`` that takes its place when the block has ended well; errors as in ``writing``."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        with writing(path, field):
            yield draft
            os.replace(draft, path)
    finally:
        with suppress(OSError):
            draft.unlink()
