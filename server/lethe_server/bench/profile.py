"""Where the time of a decode step goes: torch's operations, grouped by the part of the model they belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

RANGE = "bench:"
# An operation: its name, the part it belongs to, its own seconds. A profile: seconds of a step, steps, operations.
Operation = tuple[str, str, float]
Profile = tuple[float, int, list[Operation]]

ATTENTION = ("vllm::unified_", "_C::cpu_att", "_C::reshape_and_cache", "aten::scaled_dot_product")
ADAPTERS = ("lethe::", "aten::mm", "aten::addmm", "aten::bmm")  # the models' own linear layers are vLLM's on the CPU
LINEAR = (
    "_C::onednn",
    "_C::cpu_gemm",
    "_C::weight_packed_linear",
    "aten::mm",
    "aten::addmm",
    "aten::linear",
    "mkldnn::",
)
HEADS = {"large head": "large: head", "pair head": "pair: head", "model head": "rules"}
BETWEEN = "between operations (Python, scheduling)"


def leaves(events: Iterable[Any]) -> list[Operation]:
    """Operations from torch's profiler events, one for each name and part.

    An operation's own time leaves out the operations it calls; its part is that of the nearest hook around it, empty
    outside the model.
    """
    found: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        found[event.name, _part(event)] += event.self_cpu_time_total / 1e6
    return [(name, part, seconds) for (name, part), seconds in found.items() if seconds > 0]


def _part(event: Any) -> str:
    while event is not None:
        if event.name.startswith(RANGE):
            return str(event.name.removeprefix(RANGE))
        event = event.cpu_parent
    return ""


def group_of(name: str, part: str) -> str:
    """The line of the table that an operation belongs to."""
    if part in HEADS:
        return HEADS[part]
    if part not in ("large", "pair"):
        return "rest of the step (sampling, inputs)"
    if name.startswith(ATTENTION):
        return f"{part}: attention"
    if part == "pair" and name.startswith(ADAPTERS):
        return "pair: adapters"
    if name.startswith(LINEAR):
        return f"{part}: linear layers"
    return f"{part}: the rest"


def groups(profile: Sequence[Any]) -> dict[str, float]:
    """Seconds of one step by group, largest first; what no operation accounts for is named too."""
    wall, steps, operations = profile
    found: dict[str, float] = defaultdict(float)
    for name, part, seconds in operations:
        found[group_of(name, part)] += seconds / steps
    found[BETWEEN] = max(0.0, wall - sum(found.values()))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def as_markdown(profile: Sequence[Any], title: str) -> str:
    found = groups(profile)
    total = sum(found.values())
    lines = [f"| {name} | {1e3 * s:.3f} | {s / total:.1%} |" for name, s in found.items()]
    head = f"{title}. The profiler itself slows small operations; shares matter more than times."
    return "\n".join([head, "", "| part | ms per step | share |", "|---|---|---|", *lines, ""])
