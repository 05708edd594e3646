"""Public model names and what each stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lethe_offsets.catalog import Catalog
from lethe_offsets.errors import InvalidInput, LetheError
from lethe_offsets.module import Module
from lethe_server.residents import BASE, Resident, Residents

PUBLIC_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
NAME_FORM = (
    f"1 to 128 of letters, digits, '.', '_', '/' and '-', beginning with a letter or digit, no '..', not {BASE!r}"
)


def check_public_name(name: str, field: str = "model") -> str:
    """``name`` if it can be a public model name, which no reference of a module is. Raises InvalidInput."""
    if not PUBLIC_NAME.fullmatch(name) or ".." in name or name == BASE:
        raise InvalidInput(field, name, NAME_FORM)
    return name


def plan_routes(
    routes: Mapping[str, str], served_name: str, modules: Iterable[Module], allow_unprotected: bool
) -> dict[str, str | None]:
    """Public name -> module reference, or None for the large model alone.

    Raises InvalidInput or ModuleNotFound for a route that can't be, and when the routes to make aren't clear.
    """
    catalog = Catalog()
    for module in modules:
        catalog.add(module)
    if not routes:
        return {served_name: _only_module(catalog, allow_unprotected)}
    planned: dict[str, str | None] = {}
    for name, target in routes.items():
        if target == BASE and not allow_unprotected:
            raise InvalidInput(f"routes.{name}", target, "a module; --allow-unprotected to serve the large model alone")
        planned[check_public_name(name, "routes")] = None if target == BASE else catalog.get(target).ref
    return planned


def _only_module(catalog: Catalog, allow_unprotected: bool) -> str | None:
    modules = catalog.list()
    if len(modules) > 1:
        names = [module.name for module in modules]
        targets = names if len(set(names)) == len(names) else [module.ref for module in modules]
        example = " ".join(f"--route PUBLIC={target}" for target in targets)
        raise InvalidInput("routes", None, f"one for each module that is to be served, such as {example}")
    if not modules and not allow_unprotected:
        raise InvalidInput("modules", None, "at least one --module; --allow-unprotected to serve the large model alone")
    return modules[0].ref if modules else None


class RouteTable:
    """Which resident answers for which public name; reading and changing it needs no lock on one event loop."""

    def __init__(self, residents: Residents) -> None:
        self._residents = residents
        self._targets: dict[str, Resident] = {}

    def point(self, name: str, target: Resident) -> Resident | None:
        """Let ``name`` stand for ``target`` from now on; returns what it stood for."""
        previous = self._targets.get(name)
        self._targets[name] = target
        return previous

    def resolve(self, name: str, *, admin: bool) -> Resident | None:
        """What answers for ``name``: a public name for everyone; a module's reference or ``base`` for admin keys."""
        if name in self._targets:
            return self._targets[name]
        if not admin:
            return None
        if name == BASE:
            return self._residents.base
        try:
            found = self._residents.get(name) if "@" in name else None
        except LetheError:
            return None
        return None if found is None or found.closing else found

    def names(self) -> list[str]:
        """All public names, sorted."""
        return sorted(self._targets)

    def items(self) -> list[tuple[str, Resident]]:
        return sorted(self._targets.items())

    def naming(self, target: Resident) -> list[str]:
        """The public names that stand for ``target``, sorted."""
        return [name for name, resident in self.items() if resident is target]
