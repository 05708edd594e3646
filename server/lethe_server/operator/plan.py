"""Step by step rollouts: from what a route is to what it is to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lethe_offsets.errors import InvalidInput
from lethe_server.names import BASE
from lethe_server.operator.client import RouteInfo, ShadowInfo, TargetInfo, answering, spec_of

WHOLE = 100.0


def plan_swap(refs: Sequence[str]) -> dict[str, Any]:
    """All clients to ``refs``, several of which answer together; nothing else stays, no shadow either."""
    return answering(_modules(refs))


def plan_canary(route: RouteInfo | None, refs: Sequence[str], percent: float, model: str) -> dict[str, Any]:
    """``percent`` of clients to ``refs``, the others to what answers for the route besides, as they were shared out.

    Raises InvalidInput for a route that isn't there, or where nothing besides ``refs`` answers.
    """
    others = [] if route is None else [each for each in route.targets if each.modules != _modules(refs)]
    if route is None or not others:
        raise InvalidInput("--canary", percent, f"a model that something else answers for; {model} has nothing else")
    rest = sum(each.weight for each in others)
    kept = [each.model_copy(update={"weight": each.weight / rest * (WHOLE - percent)}) for each in others]
    canary = TargetInfo(modules=_modules(refs), weight=percent)
    return spec_of([*kept, canary], route.shadow)


def plan_shadow(route: RouteInfo | None, refs: Sequence[str], percent: float, model: str) -> dict[str, Any]:
    """``refs`` compared on ``percent`` of requests, 0 to stop; who answers stays as it is. Raises InvalidInput."""
    if route is None:
        raise InvalidInput("--shadow", percent, f"a model with a route; {model} has none")
    shadow = ShadowInfo(modules=_modules(refs), share=percent / WHOLE) if percent else None
    return spec_of(route.targets, shadow)


def _modules(refs: Sequence[str]) -> list[str]:
    """As a server tells them: sorted, none for the large model alone."""
    return [] if list(refs) == [BASE] else sorted(refs)
