"""The record of who changed what, for admin keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from lethe_server.audit.line import Line
from lethe_server.services import Services, services

router = APIRouter(prefix="/admin/audit", tags=["admin"])
MAX_PAGE = 1000


class Page(BaseModel):
    """Lines in their order. last, head: number and hash of the newest line of the log, for ``lethe audit verify``."""

    lines: list[Line]
    last: int
    head: str


@router.get("")
async def list_lines(
    using: Annotated[Services, Depends(services)],
    after: Annotated[int, Query(ge=0, le=2**53, description="Only lines with a higher number.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> Page:
    """A page of the audit log, from the number after ``after`` on. 503 when there is none or it can't be read."""
    lines = await run_in_threadpool(using.audit.page, after, limit)
    last, head = using.audit.head
    return Page(lines=lines, last=last, head=head)
