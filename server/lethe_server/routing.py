"""Public model names and what each stands for."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from lethe_offsets.errors import LetheError
from lethe_server.names import BASE
from lethe_server.residents import Residents
from lethe_server.state.declared import DeclaredState, Modules, RouteSpec, Shadow, Target


@dataclass(frozen=True, slots=True)
class Choice:
    """What answers one request, and the shadow to compare its answer with, if its route has one."""

    modules: Modules
    shadow: Shadow | None = None


class RouteTable:
    """Which modules answer for which public name. It holds one declared state, exchanged whole."""

    def __init__(self, residents: Residents) -> None:
        self.residents = residents
        self._state = DeclaredState()

    @property
    def state(self) -> DeclaredState:
        """What requests are routed by now."""
        return self._state

    def flip(self, state: DeclaredState) -> None:
        """Route by ``state`` from now on; a request is routed by one state only."""
        self._state = state

    def resolve(self, name: str, sticky_key: str) -> Choice | None:
        """What answers for the public name ``name``, the same for one sticky key while the targets stay."""
        spec = self._state.routes.get(name)
        return None if spec is None else Choice(choose(spec, name, sticky_key).modules, spec.shadow)

    def resolve_ref(self, name: str) -> Choice | None:
        """What answers for a module's reference or for ``base``, which only those who measure may use."""
        if name == BASE:
            return Choice(())
        try:
            ref = self._state.resolve(name) if "@" in name else None
        except LetheError:
            return None
        return None if ref is None or ref in self.residents.closing else Choice((ref,))

    def names(self) -> list[str]:
        """All public names, sorted."""
        return sorted(self._state.routes)

    def items(self) -> list[tuple[str, RouteSpec]]:
        return sorted(self._state.routes.items())


def choose(spec: RouteSpec, route: str, key: str) -> Target:
    """The target of a sticky key, by weighted rendezvous hashing.

    A target gets its share of all keys. When its weight rises, keys move towards it and between no others.
    """
    if len(spec.targets) == 1:
        return spec.targets[0]
    return min(spec.targets, key=lambda target: -math.log(_uniform(route, target.modules, key)) / target.weight)


def _uniform(*parts: str | Modules) -> float:
    """A number in (0, 1), the same for the same parts."""
    drawn = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8])
    return (drawn + 0.5) / 2**64
