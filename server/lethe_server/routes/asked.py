"""A route as an administrator asks for it: references may be short."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lethe_offsets.errors import InvalidInput
from lethe_server.names import BASE
from lethe_server.state.declared import (
    MAX_MERGED,
    MAX_TARGETS,
    DeclaredState,
    Modules,
    RouteSpec,
    Shadow,
    Target,
)


class AskedModules(BaseModel):
    """One ``module``, or several ``modules`` that answer together."""

    model_config = ConfigDict(extra="forbid")
    module: str | None = None
    modules: list[str] | None = Field(None, min_length=1, max_length=MAX_MERGED)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.module is None) == (self.modules is None):
            raise ValueError("give either module or modules")
        return self

    def resolve(self, state: DeclaredState, allow_unprotected: bool) -> Modules:
        """Full references, sorted: the same modules in another order are the same target."""
        if self.module == BASE and allow_unprotected:
            return ()
        return tuple(sorted(state.resolve(ref) for ref in self.modules or [self.module or ""]))


class AskedTarget(AskedModules):
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class AskedShadow(AskedModules):
    share: float = Field(gt=0, le=1)


class AskedRoute(BaseModel):
    """What a public name is to stand for: a ``module``, ``modules`` together, or several weighted ``targets``."""

    model_config = ConfigDict(extra="forbid")
    module: str | None = None
    modules: list[str] | None = Field(None, min_length=1, max_length=MAX_MERGED)
    targets: list[AskedTarget] | None = Field(None, min_length=1, max_length=MAX_TARGETS)
    shadow: AskedShadow | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if [self.module, self.modules, self.targets].count(None) != 2:
            raise ValueError("give one of module, modules and targets")
        return self

    def spec(self, state: DeclaredState, allow_unprotected: bool) -> RouteSpec:
        """Raises InvalidInput and ModuleNotFound for references that mean no module or several."""
        asked = self.targets or [AskedTarget(module=self.module, modules=self.modules)]
        shadow = self.shadow
        try:
            return RouteSpec(
                targets=tuple(
                    Target(modules=each.resolve(state, allow_unprotected), weight=each.weight) for each in asked
                ),
                shadow=None
                if shadow is None
                else Shadow(modules=shadow.resolve(state, allow_unprotected), share=shadow.share),
            )
        except ValidationError as err:
            message = err.errors()[0]["msg"].removeprefix("Value error, ")
            raise InvalidInput("targets", self.model_dump(exclude_none=True), message) from err
