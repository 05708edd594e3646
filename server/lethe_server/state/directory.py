"""The declared state in a directory that servers of one machine, or of one network filesystem, share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lethe_offsets.errors import ModuleCorrupt
from lethe_offsets.module import Module
from lethe_offsets.sums import read_files
from lethe_server.catalog.shelf import Shelf
from lethe_server.errors import StateConflict, StateUnavailable
from lethe_server.state.declared import DeclaredState
from lethe_server.state.durable import replace_file
from lethe_server.state.store import MODULES, STATE_FILE, check_known, check_successor, digest_of
from lethe_server.state.text import as_state, as_text

LOCK_TIMEOUT_S = 30.0  # a change takes milliseconds; who holds the lock for longer is stuck


class DirectoryStore:
    """``routes.yaml``, ``modules/<hex>/`` and a lock file, which only who writes takes.

    ``write`` makes a draft, flushes it to the disk, renames it and flushes the directory: whenever it is killed, the
    file is the old or the new one.
    """

    def __init__(self, root: Path) -> None:
        """Raises StateUnavailable when ``root`` can't be made."""
        self._file = root / STATE_FILE
        self._seen: bytes | None = None
        self._looked = False
        self._lock = FileLock(root / ".lock", timeout=LOCK_TIMEOUT_S)
        self._shelf = Shelf(root / MODULES)
        with self._reaching():
            root.mkdir(parents=True, exist_ok=True)

    def read(self) -> DeclaredState | None:
        self._seen = self._text()
        self._looked = True
        return None if self._seen is None else as_state(self._seen, str(self._file))

    def write(self, state: DeclaredState) -> None:
        with self._locked() as text:
            there = None if text is None else as_state(text, str(self._file))
            check_successor(state, there)
            if self._looked and text != self._seen:
                raise StateConflict(f"{self._file} was changed since it was read")
            check_known(state, there, lambda ref: self._shelf.holds(digest_of(ref)))
            new = as_text(state)
            replace_file(self._file, new, self._file.with_name(f".{STATE_FILE}.draft"))
            self._seen, self._looked = new, True

    def changed(self) -> bool:
        """Compares the bytes: times of change are too coarse for changes in a row, and late on network filesystems."""
        return self._text() != self._seen

    def put_module(self, module: Module) -> None:
        files = read_files(module.path)
        with self._reaching():
            kept = self._shelf.put(files)
        if kept.digest != module.digest:
            raise ModuleCorrupt("digest", kept.digest, module.digest)

    def get_module(self, ref: str) -> Module:
        with self._reaching():
            return self._shelf.get(ref, digest_of(ref))

    def drop_module(self, ref: str) -> None:
        with self._locked() as text:
            if text is None or ref not in as_state(text, str(self._file)).catalog:
                self._shelf.drop(digest_of(ref))

    def _text(self) -> bytes | None:
        with self._reaching():
            try:
                return self._file.read_bytes()
            except FileNotFoundError:
                if self._file.parent.is_dir():
                    return None
                raise

    @contextmanager
    def _locked(self) -> Iterator[bytes | None]:
        """The lock, and the text of the file, which none but people can change meanwhile."""
        self._text()  # raises where the directory is gone: filelock would make it anew
        with self._reaching(), self._lock:
            yield self._text()

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Raises StateUnavailable where the block can't reach the directory."""
        try:
            yield
        except Timeout as err:
            raise StateUnavailable(f"{self._file.parent}: another process has held the lock for too long") from err
        except OSError as err:
            raise StateUnavailable(f"{self._file.parent} can't be read or written: {err}") from err
