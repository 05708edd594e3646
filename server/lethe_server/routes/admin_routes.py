"""Which modules answer for which public name, for admin keys."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from lethe_server.changes import Changed
from lethe_server.names import BASE
from lethe_server.routes.asked import AskedRoute
from lethe_server.routes.orders import Ordered, Using
from lethe_server.services import Services
from lethe_server.state.declared import DeclaredState, RouteSpec

router = APIRouter(prefix="/admin/routes", tags=["admin"])


class TargetInfo(BaseModel):
    """Modules that answer together, none for the large model alone, and how many requests they are answering."""

    modules: list[str]
    weight: float
    inflight: int


class ShadowInfo(BaseModel):
    modules: list[str]
    share: float


class EarlierRoute(BaseModel):
    """What a route stood for before."""

    targets: list[TargetInfo]
    shadow: ShadowInfo | None


class RouteInfo(BaseModel):
    """A public name and what answers for it.

    module: the reference, or ``base``, where it is one alone. previous: what a rollback would bring back, said as
    ``module`` where it was one alone; null when there is nothing.
    """

    model: str
    module: str | None
    targets: list[TargetInfo]
    shadow: ShadowInfo | None
    previous: str | EarlierRoute | None


class ChangedRoute(RouteInfo):
    """A changed route, observed by this server. generation: of the change."""

    generation: int
    observed_generation: int


class DeletedRoute(BaseModel):
    model: str
    generation: int
    observed_generation: int
    targets: list[TargetInfo]
    previous: str | EarlierRoute | None


def _alone(spec: RouteSpec) -> str | None:
    if len(spec.targets) > 1 or len(spec.targets[0].modules) > 1 or spec.shadow:
        return None
    return spec.targets[0].modules[0] if spec.targets[0].modules else BASE


def _targets(spec: RouteSpec, using: Services) -> list[TargetInfo]:
    return [
        TargetInfo(
            modules=list(target.modules),
            weight=target.weight,
            inflight=using.residents.num_requests(target.modules),
        )
        for target in spec.targets
    ]


def _shadow(spec: RouteSpec) -> ShadowInfo | None:
    return None if spec.shadow is None else ShadowInfo(modules=list(spec.shadow.modules), share=spec.shadow.share)


def _earlier(spec: RouteSpec | None, using: Services) -> str | EarlierRoute | None:
    if spec is None:
        return None
    return _alone(spec) or EarlierRoute(targets=_targets(spec, using), shadow=_shadow(spec))


def _route(state: DeclaredState, model: str, using: Services) -> RouteInfo:
    spec = state.route(model)
    earlier = state.history.get(model, ())
    module = _alone(spec.model_copy(update={"shadow": None}))
    previous = _earlier(earlier[-1] if earlier else None, using)
    return RouteInfo(model=model, module=module, targets=_targets(spec, using), shadow=_shadow(spec), previous=previous)


def _changed(changed: Changed, using: Services) -> ChangedRoute:
    route = _route(changed.after, changed.subject, using)
    observed = using.reconciler.served.generation
    return ChangedRoute(**dict(route), generation=changed.after.generation, observed_generation=observed)


@router.get("")
async def list_routes(using: Using) -> list[RouteInfo]:
    state = using.reconciler.served
    return [_route(state, model, using) for model in sorted(state.routes)]


@router.put("/{model:path}")
async def point_route(model: str, body: AskedRoute, using: Using, order: Ordered) -> ChangedRoute:
    """Let a public name, known or new, stand for modules of the catalog; requests under way are not affected."""
    allowed = using.reconciler.terms.allow_unprotected
    return _changed(await using.changes.point(order, model, lambda state: body.spec(state, allowed)), using)


@router.post("/{model:path}/rollback")
async def roll_back_route(model: str, using: Using, order: Ordered) -> ChangedRoute:
    """Let a public name stand for what it stood for before its last change; a second time undoes the first."""
    return _changed(await using.changes.roll_back(order, model), using)


@router.delete("/{model:path}")
async def delete_route(model: str, using: Using, order: Ordered) -> DeletedRoute:
    """Serve a public name no more; requests under way are not affected."""
    changed = await using.changes.delete_route(order, model)
    return DeletedRoute(
        model=model,
        generation=changed.after.generation,
        observed_generation=using.reconciler.served.generation,
        targets=[],
        previous=_earlier(changed.before.routes[model], using),
    )
