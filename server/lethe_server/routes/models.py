"""One public model; the list of them is vLLM's own path."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from lethe_server.errors import ModelNotFound

router = APIRouter(tags=["models"])


@router.get("/v1/models/{model:path}")
async def retrieve_model(model: str, request: Request) -> dict[str, Any]:
    """The entry that GET /v1/models has for this name."""
    listed = (await request.app.state.openai_serving_models.show_available_models()).data
    for card in listed:
        if card.id == model:
            found: dict[str, Any] = card.model_dump()
            return found
    raise ModelNotFound(model, [card.id for card in listed])
