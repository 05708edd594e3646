"""Prometheus metrics: Lethe's own and vLLM's."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from lethe_server.services import Services, services

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response)
async def metrics(using: Annotated[Services, Depends(services)]) -> Response:
    shown = b"".join(generate_latest(registry) for registry in (using.metrics.registry, using.engine_registry))
    return Response(shown, media_type=CONTENT_TYPE_LATEST)
