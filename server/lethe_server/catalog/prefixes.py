"""From where modules may come: an allowlist of directories and URLs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lethe_offsets.catalog import check_source
from lethe_offsets.errors import InvalidInput, SourceForbidden

LOCAL = ("file", "local")
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]+)?")  # no userinfo
_SEGMENT = re.compile(r"[A-Za-z0-9._@=+~,-]+")  # nothing that is decoded, expanded or split on the way: no % ? # * : \
_HF_KINDS = ("models", "datasets", "spaces", "kernels", "buckets")
_HF_REVISION = re.compile(r"(?!refs$)[A-Za-z0-9._-]+")  # refs/pr/N holds what anyone proposes to a public repository


class Allowlist:
    """Prefixes: directories, and URLs of which every segment counts whole."""

    def __init__(self, prefixes: Sequence[str]) -> None:
        """Raises InvalidInput for a prefix that can't be one."""
        self._prefixes = tuple(prefixes)
        self._directories: list[Path] = []
        self._urls: list[tuple[str, ...]] = []
        for prefix in prefixes:
            try:
                place = _place(prefix)
            except SourceForbidden as err:
                raise InvalidInput("module_sources", prefix, f"a directory, or a URL of {err.accepted}") from err
            if isinstance(place, Path):
                self._directories.append(place)
            else:
                self._urls.append(place)

    def check(self, source: str) -> Path | str:
        """The local path, with links resolved, or the URL in its one form, once it lies below a prefix.

        Raises SourceForbidden otherwise. Nothing needs to be there, and nothing is asked for over the network.
        """
        place = _place(source)
        if isinstance(place, Path):
            return check_source(place, self._directories)
        if not any(_is_below(place, prefix) for prefix in self._urls):
            within = ", ".join(self._prefixes) or "nothing: no source is allowed"
            raise SourceForbidden("source", source, f"a source within {within}")
        scheme, *parts = place
        return f"{scheme}://{'/'.join(parts)}"


def _place(source: str) -> Path | tuple[str, ...]:
    """A local path, or a URL's scheme, host and segments."""
    url = _URL.fullmatch(source)
    if url is None:
        return Path(source)
    scheme, rest = url["scheme"].lower(), url["rest"]
    if scheme in LOCAL:
        if not rest.startswith("/"):
            raise SourceForbidden("source", source, f"{scheme}:///<absolute path>")
        return Path(rest)
    host, *segments = rest.removesuffix("/").split("/")
    if not _HOST.fullmatch(host):
        raise SourceForbidden("source", source, "<scheme>://<host or bucket>[:port]/..., without a user or password")
    if any(not _SEGMENT.fullmatch(segment) or segment in (".", "..") for segment in segments):
        raise SourceForbidden("source", source, "segments of letters, digits and ._@=+~,- between single slashes")
    if scheme == "hf":
        _check_hub(source, host, segments)
    return scheme, host, *segments


def _hub_repository(parts: Sequence[str]) -> int:
    """Which of host and segments names the repository: hf://owner/repository, hf://datasets/owner/repository."""
    return 2 if parts[0] in _HF_KINDS else 1


def _check_hub(source: str, host: str, segments: Sequence[str]) -> None:
    parts = [host, *segments]
    for number, part in enumerate(parts):
        name, at, revision = part.partition("@")
        if at and (number != _hub_repository(parts) or not name or not _HF_REVISION.fullmatch(revision)):
            raise SourceForbidden("source", source, "hf://owner/repository[@branch, tag or commit]/path")


def _is_below(place: tuple[str, ...], prefix: tuple[str, ...]) -> bool:
    """A Hub prefix without a revision allows every revision."""
    start = list(place[: len(prefix)])
    if prefix[0] == "hf":
        number = 1 + _hub_repository(prefix[1:])
        if number < len(start) and "@" not in prefix[number]:
            start[number] = start[number].partition("@")[0]
    return tuple(start) == prefix
