"""Is the server alive, is it ready, and which version is it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends

from lethe_server.services import Services, services

router = APIRouter(tags=["health"])


@router.get("/health")
async def health(using: Annotated[Services, Depends(services)]) -> dict[str, str]:
    """Whether the engine lives; an engine that died doesn't come back, the process must be started again."""
    await using.engine_check()
    return {"status": "alive"}


@router.get("/ready")
async def ready(using: Annotated[Services, Depends(services)]) -> dict[str, str]:
    """Whether what is declared is served: every module has been loaded, and its probe has shown that it acts."""
    await using.check_ready()
    return {"status": "ready"}


@router.get("/version")
async def show_version(using: Annotated[Services, Depends(services)]) -> dict[str, str]:
    return {"version": version("lethe-server"), "vllm": using.vllm_version}
