"""Which module answers for which public name, for admin keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from lethe_server.services import Services, services

router = APIRouter(prefix="/admin/routes", tags=["admin"])
Using = Annotated[Services, Depends(services)]


class Target(BaseModel):
    """A module by reference, or by name if it has one version here."""

    model_config = ConfigDict(extra="forbid")
    module: str


class Route(BaseModel):
    """A public name and what answers for it: a module's reference, or ``base`` for the large model alone."""

    model: str
    module: str


class Flip(Route):
    """A changed route. previous: what answered before; null for a new name."""

    previous: str | None


@router.get("")
async def list_routes(using: Using) -> list[Route]:
    return [Route(model=name, module=resident.ref) for name, resident in using.routes.items()]


@router.put("/{model:path}")
async def point_route(model: str, body: Target, using: Using) -> Flip:
    """Let a public name, known or new, stand for a loaded module; requests under way are not affected."""
    target, previous = await using.modules.flip(model, body.module)
    return Flip(model=model, module=target.ref, previous=None if previous is None else previous.ref)
