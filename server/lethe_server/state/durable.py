"""Writing that a crash of the process or the machine leaves done or not begun."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def replace_file(path: Path, content: bytes, draft: Path) -> None:
    """Let ``path`` hold ``content``, by way of ``draft``, a free path of the same filesystem."""
    try:
        _write(draft, content)
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_tree(directory: Path, files: Mapping[str, bytes]) -> None:
    """Make ``directory`` with ``files`` by relative name, all of it on the disk when this returns."""
    directory.mkdir()
    folders = {(directory / name).parent for name in files}
    for folder in folders - {directory}:
        folder.mkdir(parents=True)
    for name, content in files.items():
        _write(directory / name, content)
    for folder in folders | {directory}:
        sync_directory(folder)


def sync_directory(path: Path) -> None:
    """What was made, renamed or removed in the directory is on the disk when this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
