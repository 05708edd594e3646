"""The modules in the engine, for admin keys."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict

from lethe_server.residents import Resident
from lethe_server.routing import RouteTable
from lethe_server.services import Services, services

router = APIRouter(prefix="/admin/modules", tags=["admin"])
Using = Annotated[Services, Depends(services)]


class Source(BaseModel):
    """Where a module is to be loaded from: a directory on the server."""

    model_config = ConfigDict(extra="forbid")
    source: str


class ModuleInfo(BaseModel):
    """A module in the engine. rule: how its offset is applied; active_on: the public names it answers for."""

    ref: str
    name: str
    digest: str
    rule: dict[str, Any]
    forgets: str
    loaded_seconds: float
    active_on: list[str]
    inflight: int


def _info(resident: Resident, routes: RouteTable) -> ModuleInfo:
    loaded = resident.loaded
    if loaded is None:
        raise ValueError("the large model alone is no module")
    module = loaded.module
    return ModuleInfo(
        ref=module.ref,
        name=module.name,
        digest=module.digest,
        rule=asdict(module.rule),
        forgets=module.manifest.description,
        loaded_seconds=round(loaded.seconds, 3),
        active_on=routes.naming(resident),
        inflight=resident.num_requests,
    )


@router.get("")
async def list_modules(using: Using) -> list[ModuleInfo]:
    return [_info(resident, using.routes) for resident in using.residents.modules()]


@router.post("", status_code=201, responses={200: {"description": "This module was loaded already."}})
async def load_module(body: Source, using: Using, response: Response) -> ModuleInfo:
    """Load a module and prove in the engine that it acts; no route changes."""
    resident, new = await using.modules.load(body.source)
    response.status_code = 201 if new else 200
    return _info(resident, using.routes)


@router.get("/{ref:path}")
async def show_module(ref: str, using: Using) -> ModuleInfo:
    return _info(using.residents.get(ref), using.routes)


@router.delete("/{ref:path}", status_code=204)
async def delete_module(ref: str, using: Using) -> None:
    """Unload a module that no route names, once its requests have ended."""
    await using.modules.remove(ref)
