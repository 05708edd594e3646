"""Where the declared state is kept, with the modules that it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lethe_offsets.errors import InvalidInput, ModuleNotFound
from lethe_offsets.module import Module
from lethe_server.errors import StateConflict

if TYPE_CHECKING:
    from lethe_server.state.declared import DeclaredState


STATE_FILE = "routes.yaml"
MODULES = "modules"


class StateStore(Protocol):
    """A state that several servers share. Its calls wait for a disk or a network: never make one on the event loop.

    Every call may raise StateUnavailable, when the place can't be reached, read or written.
    """

    def read(self) -> DeclaredState | None:
        """What is declared; None: nothing yet. Raises StateInvalid, naming the file, for a file that is no state."""

    def write(self, state: DeclaredState) -> None:
        """Declare ``state``: atomic and durable.

        Raises StateConflict unless what is there has the generation before (none: 0), and is what this object saw last
        if it saw anything; StateInvalid for a file there that is no state; ModuleNotFound when the catalog has a new
        module that was not put.
        """

    def changed(self) -> bool:
        """Whether what is there is something else than this object read or wrote last; cheap enough to ask often."""

    def put_module(self, module: Module) -> None:
        """Keep the module's files, whole or not at all; put again, only its scores and signature are replaced."""

    def get_module(self, ref: str) -> Module:
        """The module, verified, in a local directory. Raises ModuleNotFound, ModuleCorrupt, and ModuleInvalid."""

    def drop_module(self, ref: str) -> None:
        """Remove the files of a module, unless the state declares it; nothing to do when there are none."""


class MemoryStore:
    """The state of one server that forgets it at its end. Modules stay where they lie."""

    def __init__(self) -> None:
        self._state: DeclaredState | None = None
        self._modules: dict[str, Path] = {}

    def read(self) -> DeclaredState | None:
        return self._state

    def write(self, state: DeclaredState) -> None:
        check_successor(state, self._state)
        self._state = state

    def changed(self) -> bool:
        return False

    def put_module(self, module: Module) -> None:
        self._modules[module.ref] = module.path

    def get_module(self, ref: str) -> Module:
        if ref not in self._modules:
            raise ModuleNotFound(ref, sorted(self._modules))
        return Module.open(self._modules[ref], digest_of(ref))

    def drop_module(self, ref: str) -> None:
        if self._state is None or ref not in self._state.catalog:
            self._modules.pop(ref, None)


def open_store(url: str, cache: Path) -> StateStore:
    """The store in a directory, or below a URL that ``fsspec`` can write to, whose modules come into ``cache``.

    Raises StateUnavailable for a place that can't be used.
    """
    from lethe_server.state.bucket import BucketStore
    from lethe_server.state.directory import DirectoryStore

    scheme, separator, path = url.partition("://")
    if not separator:
        return DirectoryStore(Path(url))
    return DirectoryStore(Path(path)) if scheme in ("file", "local") else BucketStore(url, cache)


def check_successor(state: DeclaredState, there: DeclaredState | None) -> None:
    """Raises StateConflict unless ``state`` is the generation after what is ``there``; nothing is generation 0."""
    generation = 0 if there is None else there.generation
    if state.generation != generation + 1:
        raise StateConflict(f"generation {state.generation} can't follow {generation}, which is declared")


def check_known(state: DeclaredState, there: DeclaredState | None, holds: Callable[[str], bool]) -> None:
    """Raises ModuleNotFound for a module that ``state`` declares, what is ``there`` didn't, and no store holds.

    Another server may have dropped the files between this one's ``put_module`` and its ``write``.
    """
    for ref in state.catalog:
        if (there is None or ref not in there.catalog) and not holds(ref):
            raise ModuleNotFound(ref, [])


def digest_of(ref: str) -> str:
    """``sha256:<hex>`` of a full reference. Raises InvalidInput for any other."""
    _, at, digest = ref.rpartition("@")
    if (
        not at
        or not digest.startswith("sha256:")
        or len(digest) != 71
        or not set(digest[7:]) <= set("0123456789abcdef")
    ):
        raise InvalidInput("module", ref, "name@sha256:<64 hex digits>")
    return digest
