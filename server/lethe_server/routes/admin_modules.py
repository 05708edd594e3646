"""The catalog of modules, for admin keys."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from lethe_offsets.errors import LetheError
from lethe_offsets.module import Module
from lethe_server.routes.orders import Ordered, Using
from lethe_server.services import Services

router = APIRouter(prefix="/admin/modules", tags=["admin"])
Status = Literal["declared", "loading", "resident", "closing", "failed"]


class AskedModule(BaseModel):
    """Where a module is to come from: a directory on the server or a URL, and the digest that it must have."""

    model_config = ConfigDict(extra="forbid")
    source: str
    digest: str | None = None


class ModuleInfo(BaseModel):
    """A module of the catalog.

    status: declared (in the catalog, not in the engine), loading, resident, closing or failed, with the last error.
    active_on: public names whose route names it; inflight: HTTP requests that it answers. bytes: of the engine's host
    memory. forgets, rule, scores: from its files; empty or null until this server has opened them.
    """

    ref: str
    name: str
    digest: str
    source: str
    status: Status
    error: str | None
    forgets: str
    rule: dict[str, Any] | None
    scores: dict[str, Any] | None
    active_on: list[str]
    inflight: int
    bytes: int
    loaded_seconds: float | None


def status_of(ref: str, using: Services) -> tuple[Status, str | None]:
    """Where a module of the catalog is now, and why its last load failed."""
    residents = using.residents
    if ref in residents.closing:
        return "closing", None
    own = [each for each in residents.using(ref) if each.modules == (ref,) and each.strength is None]
    failure = residents.failures.get((ref,))
    if own and own[0].loaded is not None:
        return "resident", None
    if own and own[0].work is not None:
        return ("closing" if own[0].leaving else "loading"), None
    return ("declared", None) if failure is None else ("failed", str(failure) or type(failure).__name__)


def _info(
    ref: str, using: Services, module: Module | None, scores: dict[str, Any] | None, active_on: list[str]
) -> ModuleInfo:
    """What is so now, in one look without waiting."""
    name, _, digest = ref.partition("@")
    state = using.reconciler.served
    parts = using.residents.using(ref)
    loaded = [each.loaded for each in parts if each.modules == (ref,) and each.loaded is not None]
    status, error = status_of(ref, using)
    return ModuleInfo(
        ref=ref,
        name=name,
        digest=digest,
        source=state.catalog[ref].source,
        status=status,
        error=error,
        forgets="" if module is None else module.manifest.description,
        rule=None if module is None else asdict(module.rule),
        scores=scores,
        active_on=active_on,
        inflight=sum(each.num_requests for each in parts),
        bytes=sum(each.num_bytes for each in loaded),
        loaded_seconds=round(loaded[0].seconds, 3) if loaded else None,
    )


def _scores(module: Module | None) -> dict[str, Any] | None:
    try:
        return None if module is None else module.scores()
    except (LetheError, OSError):  # no part of the module's identity
        return None


async def _shown(ref: str, using: Services) -> ModuleInfo:
    module = await asyncio.to_thread(using.library.look, ref)
    scores = await asyncio.to_thread(_scores, module)
    state = using.reconciler.served
    state.check_known(ref)
    return _info(ref, using, module, scores, state.named()[ref])


@router.get("")
async def list_modules(using: Using) -> list[ModuleInfo]:
    modules = {ref: using.library.known(ref) for ref in using.reconciler.served.catalog}
    scores = await asyncio.to_thread(lambda: {ref: _scores(module) for ref, module in modules.items()})
    named = using.reconciler.served.named()
    return [_info(ref, using, modules.get(ref), scores.get(ref), names) for ref, names in sorted(named.items())]


@router.post("", status_code=201, responses={200: {"description": "This module was declared already."}})
async def add_module(body: AskedModule, using: Using, order: Ordered, response: Response) -> ModuleInfo:
    """Fetch a module, prove in the engine that it acts, and declare it; no route changes."""
    changed = await using.changes.add_module(order, body.source, body.digest)
    response.status_code = 200 if changed.after is changed.before else 201
    return await _shown(changed.subject, using)


@router.get("/{ref:path}")
async def show_module(ref: str, using: Using) -> ModuleInfo:
    return await _shown(using.reconciler.served.resolve(ref), using)


@router.delete("/{ref:path}", status_code=204)
async def delete_module(ref: str, using: Using, order: Ordered) -> None:
    """Take a module that no route names out of the engine and the catalog, once its requests have ended."""
    await using.changes.remove_module(order, ref)
