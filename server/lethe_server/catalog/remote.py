"""The files of a module below a URL, through ``fsspec``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import fsspec  # type: ignore[import-untyped]

from lethe_offsets.digests import bytes_digest
from lethe_offsets.errors import LetheError, ModuleCorrupt, ModuleInvalid
from lethe_offsets.module import Module
from lethe_offsets.sums import MAY_HOLD, SUMS_FILE, listed_names
from lethe_server.catalog.shelf import LATER_FILES, Shelf
from lethe_server.errors import SourceUnavailable

MAX_MODULE_BYTES = 2 * 2**30
MAX_LIST_BYTES = 64 * 2**10  # a list of ten files is 1 KiB
MAX_LATER_BYTES = 16 * 2**20
OPTIONS: dict[str, dict[str, Any]] = {scheme: {"allow_redirects": False} for scheme in ("http", "https")}


class Remote:
    """Reads only the names that a module may hold, and lists no directory.

    Every call waits for the network, and raises SourceUnavailable when the source can't be reached.
    """

    def __init__(self, url: str, max_bytes: int = MAX_MODULE_BYTES) -> None:
        self._url = url
        self._max_bytes = max_bytes
        with self._reaching():
            options = OPTIONS.get(url.partition("://")[0], {})
            self._files, self._root = filesystem(url, **options)

    def sums(self) -> bytes:
        """``SHA256SUMS``. Raises ModuleInvalid when there is none or it is too large."""
        found = self._read(SUMS_FILE, MAX_LIST_BYTES)
        if found is None:
            raise ModuleInvalid(SUMS_FILE, None, f"a forget module; none is found at {self._url}")
        return found

    def covered(self, sums: bytes) -> dict[str, bytes]:
        """Every file that ``sums`` lists, and the list.

        Raises ModuleInvalid for a name that a module doesn't hold, before anything is fetched, and when all are
        larger than the bound; ModuleCorrupt for a file that is missing.
        """
        names = listed_names(sums)
        for name in names:
            if name not in MAY_HOLD:
                raise ModuleInvalid("file", name, f"only {', '.join(sorted(MAY_HOLD))}")
        files = {SUMS_FILE: sums}
        for name in names:
            content = self._read(name, self._max_bytes - sum(map(len, files.values())))
            if content is None:
                raise ModuleCorrupt(name, "no file", f"the file listed in {SUMS_FILE}")
            files[name] = content
        return files

    def bring(self, shelf: Shelf, digest: str | None = None) -> Module:
        """The module, put on ``shelf``; of one that the shelf has already, only the later files are fetched.

        Raises ModuleCorrupt when it isn't the one with ``digest``, and as ``covered``.
        """
        held = shelf.files(digest) if digest is not None else {}
        if not held:
            sums = self.sums()
            digest = check_digest(sums, digest)
            held = shelf.files(digest) or self.covered(sums)
        return shelf.put(held | self.later())

    def later(self) -> dict[str, bytes]:
        """The scores and the signature, if they are there."""
        found = {}
        for name in LATER_FILES:
            try:
                content = self._read(name, MAX_LATER_BYTES)
            except SourceUnavailable as err:
                if not isinstance(err.__cause__, PermissionError):
                    raise
                content = None  # S3 answers 403 for a key that isn't there to who may not list the bucket
            if content is not None:
                found[name] = content
        return found

    def _read(self, name: str, limit: int) -> bytes | None:
        with self._reaching():
            try:
                with self._files.open(f"{self._root}/{name}", "rb") as file:
                    content = _read_bounded(file, limit)
            except FileNotFoundError:
                return None
        if len(content) > limit:
            raise ModuleInvalid(name, "a larger file", f"at most {limit} bytes")
        return content

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, LetheError):
            raise
        except Exception as err:  # each filesystem has its own
            raise SourceUnavailable(self._url, f"{type(err).__name__}: {' '.join(str(err).split())}") from err


def filesystem(url: str, **options: Any) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of ``url``, which remembers no listing, and the path in it."""
    files, root = fsspec.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False, **options)
    files.invalidate_cache()  # huggingface_hub's shares its listings among all instances and always remembers them
    return files, str(root).rstrip("/")


def _read_bounded(file: BinaryIO, limit: int) -> bytes:
    """The whole file, or more than ``limit`` bytes of one that is larger, whatever size the other side tells."""
    content = bytearray()
    while len(content) <= limit and (block := file.read(min(2**20, limit + 1 - len(content)))):
        content += block
    return bytes(content)


def check_digest(sums: bytes, expected: str | None) -> str:
    """The digest that ``sums`` gives a module. Raises ModuleCorrupt when another is expected."""
    digest = bytes_digest(sums)
    if expected not in (None, digest):
        raise ModuleCorrupt("digest", digest, str(expected))
    return digest
