"""What a module's own files say of it: manifest, evaluation, training; for admin keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from fastapi import APIRouter
from pydantic import BaseModel

from lethe_offsets.errors import LetheError
from lethe_offsets.evaluation.report.measures import Kind, Scale, among
from lethe_offsets.module import Module
from lethe_offsets.sums import TRAINING_FILE
from lethe_server.audit.records import numbers
from lethe_server.routes.orders import Using

router = APIRouter(prefix="/admin/modules", tags=["admin"])  # before admin_modules, whose path takes every other


class MeasureInfo(BaseModel):
    """A number of the evaluation in words. scale: a share of 1, an AUC of which 0.5 is chance, or its own."""

    kind: Kind
    key: str
    title: str
    meaning: str
    scale: Scale
    value: float


class ModuleDetails(BaseModel):
    """measures: what of ``eval.json`` has words; numbers: all of it, by dotted path; facts: what else it says, in text.

    training: ``training.json``; null where the module was trained elsewhere.
    """

    ref: str
    manifest: dict[str, Any]
    measures: list[MeasureInfo]
    numbers: dict[str, float]
    facts: dict[str, str]
    training: dict[str, Any] | None


@router.get("/{ref}/details")
async def show_details(ref: str, using: Using) -> ModuleDetails:
    full = using.reconciler.served.resolve(ref)
    return await asyncio.to_thread(lambda: _details(using.library.look(full)))


def _details(module: Module) -> ModuleDetails:
    scores = _scores(module)
    found = dict(numbers(scores))
    return ModuleDetails(
        ref=module.ref,
        manifest=module.manifest.model_dump(mode="json"),
        measures=list(_measures(found)),
        numbers=found,
        facts={key: value for key, value in scores.items() if isinstance(value, str)},
        training=_object(module.path / TRAINING_FILE),
    )


def _measures(found: Mapping[str, float]) -> Iterator[MeasureInfo]:
    for one in among({key: {"module": value} for key, value in found.items()}):
        yield MeasureInfo(
            kind=one.measure.kind,
            key=one.key,
            title=one.title,
            meaning=one.meaning,
            scale=one.measure.scale,
            value=one.values["module"],
        )


def _scores(module: Module) -> dict[str, Any]:
    try:
        return module.scores() or {}
    except (LetheError, OSError):  # no part of the module's identity
        return {}


def _object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None for anything else. NaN, which JSON has not, is anything else."""
    try:
        found = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)
