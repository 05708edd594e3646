"""How far this server has followed what is declared, for admin keys."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from lethe_server.routes.orders import Using

router = APIRouter(prefix="/admin/state", tags=["admin"])


class StateInfo(BaseModel):
    """generation: declared last; observed_generation: served; error: why these differ, or can't be compared.

    models, modules: how many are served. plus_model: what the plus lane runs, where it has weights of its own.
    """

    generation: int
    observed_generation: int
    error: str | None
    models: int
    modules: int
    plus_model: str | None


@router.get("")
async def show_state(using: Using) -> StateInfo:
    served, plus = using.reconciler.served, using.reconciler.lane.model
    return StateInfo(
        generation=using.reconciler.declared.generation,
        observed_generation=served.generation,
        error=using.reconciler.error,
        models=len(served.routes),
        modules=len(served.catalog),
        plus_model=None if plus is None else plus.id,
    )
