"""What the admin paths share: who orders a change, and of which generation."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header

from lethe_offsets.errors import InvalidInput
from lethe_server.changes import Order
from lethe_server.scope import current
from lethe_server.services import Services, services

Using = Annotated[Services, Depends(services)]


def order(
    if_match: Annotated[str | None, Header(description="The generation to change; 412 when it is another.")] = None,
) -> Order:
    """Raises InvalidInput for an ``If-Match`` that is no generation."""
    who = current().caller.name
    if if_match is None or if_match == "*":
        return Order(who)
    text = if_match.removeprefix('"').removesuffix('"')
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InvalidInput("If-Match", if_match[:40], "a generation, as in GET /admin/state")
    return Order(who, int(text))


Ordered = Annotated[Order, Depends(order)]
