"""Modules in a local directory, by digest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lethe_offsets.digests import bytes_digest
from lethe_offsets.errors import ModuleInvalid, ModuleNotFound
from lethe_offsets.module import Module
from lethe_offsets.sums import EVAL_FILE, SIGNATURE_FILE, SUMS_FILE, check_sums, read_files
from lethe_server.state.durable import replace_file, sync_directory, write_tree

LATER_FILES = (EVAL_FILE, SIGNATURE_FILE)  # no part of the identity: the same digest may come with others
DRAFTS = ".drafts"


class Shelf:
    """``<root>/<64 hex digits>/`` holds the files of one module; processes may share a shelf.

    A module is seen whole or not at all, also after a crash of the machine. A call that writes raises OSError where
    the disk doesn't let it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = FileLock(root / ".lock")

    def path(self, digest: str) -> Path:
        """Where the module with this digest lies if it is here."""
        return self._root / digest.removeprefix("sha256:")

    def holds(self, digest: str) -> bool:
        """Whether the module is here; its files are not read."""
        return (self.path(digest) / SUMS_FILE).is_file()

    def digests(self) -> list[str]:
        """Of every module that is here, sorted."""
        return sorted(f"sha256:{file.parent.name}" for file in self._root.glob(f"[0-9a-f]*/{SUMS_FILE}"))

    def get(self, ref: str, digest: str) -> Module:
        """The module, every file read. Raises ModuleNotFound, naming ``ref``, ModuleCorrupt and ModuleInvalid."""
        if not self.holds(digest):
            raise ModuleNotFound(ref, self.digests())
        return Module.open(self.path(digest), digest)

    def files(self, digest: str) -> dict[str, bytes]:
        """The module's files by relative name; none when it isn't here, or broken."""
        try:
            files = read_files(self.path(digest))
            return files if bytes_digest(check_sums(files)) == digest else {}
        except ModuleInvalid:
            return {}

    def put(self, files: Mapping[str, bytes]) -> Module:
        """Keep a module's files, by relative name; of one that is here and sound, only the later files are replaced.

        Raises ModuleInvalid and ModuleCorrupt for files that are no module; nothing is kept then.
        """
        digest = bytes_digest(check_sums(files))
        self._root.mkdir(parents=True, exist_ok=True)
        with self._drafts() as drafts:
            if self.files(digest):
                self._replace_later(self.path(digest), files, drafts)
            else:
                self._place(files, digest, drafts)
        return Module.open(self.path(digest), digest)

    def drop(self, digest: str) -> None:
        """Remove a module; nothing to do when it isn't here."""
        if not self._root.exists():
            return
        with self._drafts() as drafts:
            if self.path(digest).exists():
                self.path(digest).rename(drafts / "dropped")
                sync_directory(self._root)

    @contextmanager
    def _drafts(self) -> Iterator[Path]:
        """The lock, and an empty directory on the same filesystem, whatever a process that was killed left there."""
        drafts = self._root / DRAFTS
        with self._lock:
            if drafts.exists():
                shutil.rmtree(drafts)
            drafts.mkdir()
            try:
                yield drafts
            finally:
                shutil.rmtree(drafts, ignore_errors=True)

    def _place(self, files: Mapping[str, bytes], digest: str, drafts: Path) -> None:
        """The whole module, in place of one that is here and broken."""
        draft = drafts / "module"
        write_tree(draft, files)
        Module.open(draft, digest)
        if self.path(digest).exists():
            self.path(digest).rename(drafts / "broken")
        draft.rename(self.path(digest))
        sync_directory(self._root)

    def _replace_later(self, path: Path, files: Mapping[str, bytes], drafts: Path) -> None:
        """Drafts lie outside of the module, where a reader would refuse them."""
        for name in LATER_FILES:
            there = (path / name).read_bytes() if (path / name).exists() else None
            if name in files and files[name] != there:
                replace_file(path / name, files[name], drafts / name)
