"""A run's settings under flat names.

A knob is one setting under one key of a method's file. The forget objective's knobs have their own names (``beta``)
but for its weight, ``forget_weight``; those of the retain term begin with ``retain_``; a rule's and a run's have the
names they have there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lethe_offsets.pair import Rule
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.objectives import Objective

Place = tuple[str, ...]  # where a TrainingConfig has it
Knobs = dict[str, Place]


def knobs(objective: type[Objective], term: type[Objective] | None) -> Knobs:
    """The knobs of a method of this forget objective and retain term, in the order of its file."""
    found: Knobs = {name: ("objective", name) for name in objective.model_fields}
    found["forget_weight"] = found.pop("weight")
    found["retain"] = ("retain", "name")
    found |= {f"retain_{name}": ("retain", name) for name in (term.model_fields if term else ())}
    found |= {field.name: ("rule", field.name) for field in fields(Rule)}
    found |= {name: (name,) for name in TrainingConfig.model_fields if name not in ("objective", "retain", "rule")}
    unused = {"name", "retain_name", "gate"}
    unused |= {"mode", "rank_k"} if objective.trained == "ensemble" else {"retain_around"}
    if "instead" in objective.reads or objective.trained == "assistant":
        unused.add("instead_weight")
    if term is None:
        unused |= {"retain_around", "retain_batch_size"}
    return {key: place for key, place in found.items() if key not in unused}


def configure(objective: type[Objective], values: Mapping[Place, object]) -> tuple[TrainingConfig | None, list[str]]:
    """The settings with each value in its place, or what is wrong with them."""
    nested: dict[str, Any] = {"objective": {"name": objective.model_fields["name"].default}, "rule": {}}
    for (outer, *inner), value in values.items():
        if inner:
            nested.setdefault(outer, {})[inner[0]] = value
        else:
            nested[outer] = value
    if nested["retain"]["name"] == "none":
        nested["retain"] = None
    try:
        return TrainingConfig.model_validate(nested), []
    except ValidationError as err:
        return None, [_problem(error) for error in err.errors(include_url=False)]


def _problem(error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in error["loc"])
    match error["loc"]:
        case ("objective", _, field):
            key = "forget_weight" if field == "weight" else str(field)
        case ("retain", _, field):
            key = f"retain_{field}"
        case ("rule", field):
            key = str(field)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":  # ours, and complete
        return message
    return f"{key}: {message}, got {error['input']!r}"
