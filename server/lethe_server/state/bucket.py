"""The declared state in a bucket, or any other place that ``fsspec`` can write to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lethe_offsets.errors import LetheError, ModuleCorrupt, ModuleInvalid, ModuleNotFound
from lethe_offsets.module import Module
from lethe_offsets.sums import MAY_HOLD, SUMS_FILE, read_files
from lethe_server.catalog.remote import Remote, filesystem
from lethe_server.catalog.shelf import Shelf
from lethe_server.errors import SourceUnavailable, StateConflict, StateUnavailable
from lethe_server.state.declared import DeclaredState
from lethe_server.state.store import MODULES, STATE_FILE, check_known, check_successor, digest_of
from lethe_server.state.text import as_state, as_text

S3 = ("s3", "s3a")
REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")  # S3's codes for a condition that failed
MAX_TRIES = 5


class BucketStore:
    """``routes.yaml`` and ``modules/<hex>/`` below a URL.

    A module's list of files is written last and removed first: a module without it isn't there. Two writers at once:
    S3 compares and swaps (``If-Match``, ``If-None-Match``), so one of them gets StateConflict; elsewhere the generation
    is read just before writing, which leaves a gap of one round trip in which the later one wins.
    """

    def __init__(self, url: str, cache: Path) -> None:
        """cache: local directory for modules. Raises StateUnavailable for a URL that can't be used."""
        self._url = url.rstrip("/")
        self._seen: str | None = None
        self._looked = False
        self._shelf = Shelf(cache)
        with self._reaching():
            self._files, self._root = filesystem(self._url)
        self._file = f"{self._root}/{STATE_FILE}"
        self._swaps = self._url.partition("://")[0] in S3

    def read(self) -> DeclaredState | None:
        self._seen, text = self._look()
        self._looked = True
        return None if text is None else as_state(text, f"{self._url}/{STATE_FILE}")

    def write(self, state: DeclaredState) -> None:
        version, text = self._look()
        there = None if text is None else as_state(text, f"{self._url}/{STATE_FILE}")
        check_successor(state, there)
        if self._looked and version != self._seen:
            raise StateConflict(f"{self._url}/{STATE_FILE} was changed since it was read")
        check_known(state, there, self._holds)
        new = as_text(state)
        with self._reaching():
            self._swap(new, version)
        version, text = self._look()
        self._seen = version if text == new else None  # None: another has written since, and that is a change
        self._looked = True

    def changed(self) -> bool:
        return self._version() != self._seen

    def put_module(self, module: Module) -> None:
        files = read_files(module.path)
        if Module.open(module.path).digest != module.digest:
            raise ModuleCorrupt("path", str(module.path), f"the files of {module.ref}")
        with self._reaching():
            for name in sorted(files, key=lambda name: (name == SUMS_FILE, name)):
                self._files.pipe_file(self._path(module.digest, name), files[name])

    def get_module(self, ref: str) -> Module:
        digest = digest_of(ref)
        with self._reaching():
            remote = Remote(f"{self._url}/{MODULES}/{digest.removeprefix('sha256:')}")
            if not self._shelf.holds(digest) and not self._holds(ref):
                raise ModuleNotFound(ref, [])
            try:
                return remote.bring(self._shelf, digest)
            except SourceUnavailable:
                return self._shelf.get(ref, digest)

    def drop_module(self, ref: str) -> None:
        _, text = self._look()
        if text is not None and ref in as_state(text, f"{self._url}/{STATE_FILE}").catalog:
            return
        digest = digest_of(ref)
        with self._reaching():
            for name in sorted(MAY_HOLD, key=lambda name: (name != SUMS_FILE, name)):
                if self._files.exists(self._path(digest, name)):
                    self._files.rm_file(self._path(digest, name))
            self._shelf.drop(digest)

    def _path(self, digest: str, name: str) -> str:
        return f"{self._root}/{MODULES}/{digest.removeprefix('sha256:')}/{name}"

    def _holds(self, ref: str) -> bool:
        with self._reaching():
            return bool(self._files.exists(self._path(digest_of(ref), SUMS_FILE)))

    def _look(self) -> tuple[str | None, bytes | None]:
        """A version and its text; None when there is no file."""
        for _ in range(MAX_TRIES):
            version = self._version()
            if version is None:
                return None, None
            with self._reaching():
                try:
                    text: bytes = self._files.cat_file(self._file)
                except FileNotFoundError:
                    continue
            if version == self._version():
                return version, text
        raise StateUnavailable(f"{self._url}/{STATE_FILE} changes faster than it can be read")

    def _version(self) -> str | None:
        """Something that differs whenever the file does; on S3 its ETag."""
        with self._reaching():
            self._files.invalidate_cache(self._file)
            try:
                info = self._files.info(self._file)
            except FileNotFoundError:
                return None
        return str(info["ETag"]) if self._swaps else str(sorted(info.items(), key=str))

    def _swap(self, text: bytes, version: str | None) -> None:
        """Raises StateConflict where S3 finds another version than ``version``."""
        condition: dict[str, Any] = {"mode": "create"} if version is None else {}
        if self._swaps and version is not None:
            condition = {"IfMatch": version}
        try:
            self._files.pipe_file(self._file, text, **condition)
        except OSError as err:
            if not isinstance(err, FileExistsError) and _code(err) not in REFUSED:
                raise
            if self._files.cat_file(self._file) != text:  # else: ours, sent again after its answer was lost
                raise StateConflict(f"{self._url}/{STATE_FILE} was written by another just then") from err

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Raises StateUnavailable where the block can't reach the bucket or the cache."""
        try:
            yield
        except (ModuleInvalid, ModuleNotFound, StateConflict, StateUnavailable):
            raise
        except LetheError as err:
            raise StateUnavailable(str(err)) from err
        except Exception as err:  # each filesystem has its own
            problem = f"{type(err).__name__}: {' '.join(str(err).split())}"
            raise StateUnavailable(f"{self._url} can't be reached, read or written: {problem}") from err


def _code(error: OSError) -> str | None:
    """The code of the answer by S3 that ``s3fs`` made the error of."""
    response = getattr(error.__cause__, "response", None) or {}
    code = response.get("Error", {}).get("Code")
    return None if code is None else str(code)
