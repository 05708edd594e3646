"""Modules from allowed sources, verified."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from lethe_offsets.errors import InvalidInput, LetheError, ModuleInvalid
from lethe_offsets.module import Module
from lethe_offsets.signing import check_signature
from lethe_server.catalog.prefixes import Allowlist
from lethe_server.catalog.remote import MAX_MODULE_BYTES, Remote
from lethe_server.catalog.shelf import Shelf
from lethe_server.errors import SourceUnavailable

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
log = logging.getLogger(__name__)


class Fetcher:
    """prefixes: directories and URLs below which sources may lie. cache: where what comes by a URL is kept, by digest.

    trusted_keys: public keys, PEM files, one of which must have signed each module; none: signatures are not asked for.
    """

    def __init__(
        self,
        prefixes: Sequence[str],
        cache: Path,
        trusted_keys: Sequence[Path] = (),
        max_bytes: int = MAX_MODULE_BYTES,
    ) -> None:
        """Raises InvalidInput for a prefix that can't be one."""
        self._allowed = Allowlist(prefixes)
        self._shelf = Shelf(cache)
        self._trusted_keys = tuple(trusted_keys)
        self._max_bytes = max_bytes

    def fetch(self, source: str, digest: str | None = None) -> Module:
        """The module at ``source``: a directory, which is read where it is, or a URL that ``fsspec`` can read.

        digest: ``sha256:<64 hex>`` that it must have; with it, what the cache has is not fetched again. Waits for the
        disk and the network.

        Raises InvalidInput, SourceForbidden, SourceUnavailable, ModuleInvalid (ModuleCorrupt, ModuleUnsigned,
        SignatureInvalid among them).
        """
        if digest is not None and not DIGEST.fullmatch(digest):
            raise InvalidInput("digest", digest, "sha256:<64 hex digits>")
        place = self._allowed.check(source)
        if isinstance(place, Path):
            return self._check(self._open(place, digest))
        return self._cached(digest) or self._download(place, digest)

    def _open(self, directory: Path, digest: str | None) -> Module:
        try:
            size = sum(file.lstat().st_size for file in directory.rglob("*"))
        except OSError as err:
            raise SourceUnavailable(str(directory), str(err)) from err
        if size > self._max_bytes:
            raise ModuleInvalid("path", str(directory), f"a module of at most {self._max_bytes} bytes")
        return Module.open(directory, digest)

    def _cached(self, digest: str | None) -> Module | None:
        """None also for one that is not signed as demanded: its source may have a signature by now."""
        if digest is None or not self._shelf.holds(digest):
            return None
        try:
            return self._check(self._shelf.get(digest, digest))
        except LetheError:
            return None

    def _download(self, url: str, digest: str | None) -> Module:
        try:
            module = Remote(url, self._max_bytes).bring(self._shelf, digest)
        except OSError as err:
            raise SourceUnavailable(url, f"it can't be kept in the cache: {err}") from err
        log.info("fetched %s from %s", module.ref, url)
        return self._check(module)

    def _check(self, module: Module) -> Module:
        if self._trusted_keys:
            check_signature(module, self._trusted_keys)
        return module
