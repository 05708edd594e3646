"""The modules known to a server, by reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lethe_offsets.errors import InvalidInput, ModuleNotFound, SourceForbidden

if TYPE_CHECKING:  # its weights' reader imports torch, which takes seconds
    from lethe_offsets.module import Module

_REF = re.compile(r"(?P<name>[^@]+)(?:@(?P<digest>sha256:[0-9a-f]{8,64}))?")


class Catalog:
    """Modules by ``name@sha256:<hex>``. Not thread-safe: one owner."""

    def __init__(self) -> None:
        self._modules: dict[str, Module] = {}

    def add(self, module: Module) -> None:
        """Make a module known; one that is there already stays as it is."""
        self._modules.setdefault(module.ref, module)

    def remove(self, ref: str) -> Module:
        """Forget a module, named as for ``get``, and return it."""
        return self._modules.pop(self.get(ref).ref)

    def get(self, ref: str) -> Module:
        """The module ``name@sha256:<hex>``, of which 8 digits are enough, or ``name`` if it has one version here.

        Raises InvalidInput for another form and for a reference that fits several modules, ModuleNotFound for none.
        """
        return self._modules[match_ref(ref, self.refs())]

    def refs(self) -> tuple[str, ...]:
        """The full references of all modules, sorted."""
        return tuple(sorted(self._modules))

    def list(self) -> tuple[Module, ...]:
        """All modules, sorted by reference."""
        return tuple(self._modules[ref] for ref in self.refs())


def match_ref(ref: str, known: Sequence[str]) -> str:
    """Which of the ``known`` full references ``ref`` means, as ``Catalog.get``, whose errors it raises."""
    match = _REF.fullmatch(ref)
    if match is None:
        raise InvalidInput("module", ref, "name, or name@sha256:<at least 8 hex digits>")
    prefix = f"{match['name']}@{match['digest'] or 'sha256:'}"
    found = [full for full in known if full.startswith(prefix)]
    if not found:
        raise ModuleNotFound(ref, list(known))
    if len(found) > 1:
        raise InvalidInput("module", ref, f"one of {', '.join(found)}")
    return found[0]


def check_source(path: str | Path, allowed: Sequence[Path]) -> Path:
    """``path`` with links resolved, once it lies in one of the ``allowed`` directories; it need not exist.

    Raises SourceForbidden otherwise.
    """
    try:
        resolved = Path(path).resolve()
    except (OSError, ValueError) as err:  # a loop of links, a null byte
        raise SourceForbidden("path", str(path), "a path of a module") from err
    if not any(resolved.is_relative_to(directory.resolve()) for directory in allowed):
        within = ", ".join(str(directory) for directory in allowed) or "nothing: no directory is allowed"
        raise SourceForbidden("path", str(path), f"a path within {within}")
    return resolved
