"""What the record keeps of a change, so that ``lethe audit report`` can say what was forgotten, where and when.

details = {
    "routes": {public name: its RouteSpec, or null when it is gone},
    "complete": true,                 when these are all routes, and others are gone
    "modules": {ref: {"forgets": words, "scores": {name: number}, "source": where from}}
}
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lethe_offsets.errors import LetheError
from lethe_offsets.module import Module
from lethe_server.audit.auditor import Change
from lethe_server.state.declared import DeclaredState

MAX_SCORES = 100  # of eval.json, which also holds every item it was measured on
log = logging.getLogger(__name__)


def record(change: Change, before: DeclaredState | None, after: DeclaredState, modules: Iterable[Module]) -> None:
    """Fill in what turned ``before`` into ``after``. before: None when all of ``after`` is to be told, as at start.

    modules: those that the change named; others are left out of the details.
    """
    earlier = {} if before is None else before.routes
    changed = {name: spec for name, spec in after.routes.items() if earlier.get(name) != spec}
    gone = {name: spec for name, spec in earlier.items() if name not in after.routes}
    touched = {
        ref
        for name in (*changed, *gone)
        for spec in (earlier.get(name), after.routes.get(name))
        if spec
        for ref in spec.refs()
    }
    if before is not None:
        touched |= before.catalog.keys() ^ after.catalog.keys()
    routes: dict[str, Any] = {name: spec.model_dump(mode="json") for name, spec in changed.items()}
    change.generation = after.generation
    change.digests = sorted(touched)
    change.details = {
        **change.details,
        "routes": {**routes, **dict.fromkeys(gone)},
        **({"complete": True} if before is None else {}),
        "modules": {module.ref: described(module, after) for module in modules},
    }


def described(module: Module, state: DeclaredState) -> dict[str, Any]:
    """What a module forgets, the numbers of its ``eval.json`` by dotted path, and where it came from."""
    try:
        scores = module.scores() or {}
    except (LetheError, OSError) as err:  # not part of the module's identity, and no reason to refuse a change
        log.warning("the scores of %s can't be read: %s", module.ref, err)
        scores = {}
    source = state.catalog.get(module.ref)
    return {
        "forgets": module.manifest.description,
        "scores": dict(list(numbers(scores))[:MAX_SCORES]),
        "source": None if source is None else source.source,
    }


def numbers(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """Finite numbers below the objects of ``tree``; lists hold single items and are left out."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{path}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{path}{key}", value
