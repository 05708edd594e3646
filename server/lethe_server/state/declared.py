"""What a server, or any number of them, is told to serve. A change makes a new state; none is ever altered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from lethe_offsets.catalog import match_ref
from lethe_offsets.errors import InvalidInput, ModuleNotFound
from lethe_server.errors import ModelNotFound, ModuleBusy
from lethe_server.names import NAME_FORM, check_public_name, is_public_name

MAX_HISTORY = 20  # earlier specs of a route
MAX_TARGETS = 16
MAX_MERGED = 16  # modules of one target
Modules = tuple[str, ...]
"""Full references of modules that answer together; none: the large model alone."""
_FULL_REF = re.compile(r"[^@/\s]+@sha256:[0-9a-f]{64}")


def _full(ref: str) -> str:
    if not _FULL_REF.fullmatch(ref):
        raise ValueError("must be name@sha256:<64 hex digits>")
    return ref


def _sorted(refs: Modules) -> Modules:
    """Of one order: else the same modules would be in the engine twice, under one name."""
    return tuple(sorted(refs))


def _public(name: str) -> str:
    if not is_public_name(name):
        raise ValueError(f"a public name must be {NAME_FORM}")
    return name


Ref = Annotated[str, AfterValidator(_full)]
PublicName = Annotated[str, AfterValidator(_public)]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Declared):
    """A module of the catalog, and the path or URL that it came from."""

    ref: Ref
    source: str


class _Modules(_Declared):
    """Modules that answer together: one, several in any order, or none for the large model alone."""

    modules: Annotated[tuple[Ref, ...], AfterValidator(_sorted)] = Field(max_length=MAX_MERGED)

    @model_validator(mode="after")
    def _distinct_modules(self) -> Self:
        if len(set(self.modules)) < len(self.modules):
            raise ValueError("modules must differ")
        return self


class Target(_Modules):
    """What answers the share ``weight / sum of the weights`` of a route's clients."""

    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class Shadow(_Modules):
    """What is compared with the answers of ``share`` of a route's requests, and never answers itself."""

    share: float = Field(gt=0, le=1)


class RouteSpec(_Declared):
    """What a public name stands for."""

    targets: tuple[Target, ...] = Field(min_length=1, max_length=MAX_TARGETS)
    shadow: Shadow | None = None

    @model_validator(mode="after")
    def _distinct_targets(self) -> Self:
        if len({target.modules for target in self.targets}) < len(self.targets):
            raise ValueError("targets must differ in their modules")
        return self

    def groups(self) -> list[Modules]:
        """The modules of each target, then those of the shadow."""
        return [part.modules for part in (*self.targets, *([self.shadow] if self.shadow else []))]

    def refs(self) -> set[str]:
        """Every module that the route names, its shadow's included."""
        return {ref for group in self.groups() for ref in group}


class DeclaredState(_Declared):
    """Everything declared. catalog: by reference; routes and history (earlier specs, newest last): by public name.

    A transition returns a state of the next generation, or this one where nothing would change.
    """

    format_version: Literal[1] = 1
    generation: int = Field(default=0, ge=0)
    catalog: dict[Ref, Source] = Field(default_factory=dict)
    routes: dict[PublicName, RouteSpec] = Field(default_factory=dict)
    history: dict[PublicName, tuple[RouteSpec, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if wrong := [ref for ref, source in self.catalog.items() if source.ref != ref]:
            raise ValueError(f"catalog: {wrong[0]} holds another module, {self.catalog[wrong[0]].ref}")
        for name, spec in self.routes.items():
            if missing := spec.refs() - self.catalog.keys():
                raise ValueError(f"routes.{name}: {min(missing)} is not in the catalog")
        return self

    def resolve(self, ref: str) -> str:
        """The full reference of a module of the catalog, named as for ``Catalog.get``, whose errors it raises."""
        return match_ref(ref, sorted(self.catalog))

    def named(self) -> dict[str, list[str]]:
        """By reference, the public names whose route or shadow names a module, sorted."""
        found: dict[str, list[str]] = {ref: [] for ref in self.catalog}
        for name, spec in sorted(self.routes.items()):
            for ref in spec.refs():
                found[ref].append(name)
        return found

    def with_module(self, source: Source) -> Self:
        if source.ref in self.catalog:
            return self
        return self._next(catalog={**self.catalog, source.ref: source})

    def without_module(self, ref: str) -> Self:
        """Raises ModuleNotFound, and ModuleBusy while a route names the module."""
        self.check_known(ref)
        if named := self.named()[ref]:
            raise ModuleBusy(f"module {ref} is named by {', '.join(named)}; point these elsewhere first")
        return self._next(catalog={known: source for known, source in self.catalog.items() if known != ref})

    def with_route(self, name: str, spec: RouteSpec) -> Self:
        """Raises InvalidInput for a name that can't be, ModuleNotFound for a module that is not in the catalog."""
        check_public_name(name)
        for ref in sorted(spec.refs()):
            self.check_known(ref)
        present = self.routes.get(name)
        if present == spec:
            return self
        earlier = (*self.history.get(name, ()), *(() if present is None else (present,)))[-MAX_HISTORY:]
        history = {**self.history, name: earlier} if earlier else self.history
        return self._next(routes={**self.routes, name: spec}, history=history)

    def without_route(self, name: str) -> Self:
        """The route and its history are gone. Raises ModelNotFound."""
        self.route(name)
        return self._next(routes=_without(self.routes, name), history=_without(self.history, name))

    def rolled_back(self, name: str) -> Self:
        """The route as it was before its last change; a second rollback undoes the first.

        Raises ModelNotFound, InvalidInput when there is nothing before, and ModuleNotFound when a module of what was
        before is gone.
        """
        present = self.route(name)
        earlier = self.history.get(name, ())
        if not earlier:
            raise InvalidInput("model", name, "a model whose route was changed before")
        for ref in sorted(earlier[-1].refs()):
            self.check_known(ref)
        history = {**self.history, name: (*earlier[:-1], present)}
        return self._next(routes={**self.routes, name: earlier[-1]}, history=history)

    def route(self, name: str) -> RouteSpec:
        """Raises ModelNotFound."""
        if name not in self.routes:
            raise ModelNotFound(name, sorted(self.routes))
        return self.routes[name]

    def check_known(self, ref: str) -> None:
        """Raises ModuleNotFound."""
        if ref not in self.catalog:
            raise ModuleNotFound(ref, sorted(self.catalog))

    def _next(self, **changed: Any) -> Self:
        return self.model_copy(update={"generation": self.generation + 1, **changed})


def _without(entries: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {known: value for known, value in entries.items() if known != name}
