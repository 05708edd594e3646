"""What changes by itself, in one small answer, for those who ask every second; for admin keys."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from lethe_server.routes.admin_modules import Status, status_of
from lethe_server.routes.orders import Using
from lethe_server.services import Services

router = APIRouter(prefix="/admin/live", tags=["admin"])


class LiveModule(BaseModel):
    """inflight: HTTP requests that it answers."""

    status: Status
    inflight: int


class Live(BaseModel):
    """generation: declared last; observed_generation: served; error: why these differ, or can't be compared.

    modules: by reference, without those that are declared only and answer nothing. routes: by public name, the HTTP
    requests that each target answers, in the order of GET /admin/routes.
    """

    generation: int
    observed_generation: int
    error: str | None
    modules: dict[str, LiveModule]
    routes: dict[str, list[int]]


@router.get("")
async def show_live(using: Using) -> Live:
    served = using.reconciler.served
    modules = {ref: _module(ref, using) for ref in sorted(served.catalog)}
    return Live(
        generation=using.reconciler.declared.generation,
        observed_generation=served.generation,
        error=using.reconciler.error,
        modules={ref: live for ref, live in modules.items() if live.status != "declared" or live.inflight},
        routes={
            model: [using.residents.num_requests(target.modules) for target in spec.targets]
            for model, spec in sorted(served.routes.items())
        },
    )


def _module(ref: str, using: Services) -> LiveModule:
    inflight = sum(each.num_requests for each in using.residents.using(ref))
    return LiveModule(status=status_of(ref, using)[0], inflight=inflight)
