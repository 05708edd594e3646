"""A module as ``lethe module inspect`` shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from lethe_offsets.adapter import LaneAdapter
from lethe_offsets.card import rule_in_words
from lethe_offsets.manifest import Lane
from lethe_offsets.module import Module
from lethe_offsets.sums import CONFIG_FILE, WEIGHTS_FILE


@dataclass(frozen=True, slots=True)
class LaneSize:
    """rank: the largest of any layer. bytes: of the adapter's two files."""

    rank: int
    layers: int
    parameters: int
    bytes: int


def lane_sizes(module: Module) -> dict[Lane, LaneSize]:
    """The size of each lane's adapter."""
    sizes = {}
    for lane, directory in module.lanes.items():
        adapter = LaneAdapter.read(directory)
        num_bytes = sum((directory / name).stat().st_size for name in (CONFIG_FILE, WEIGHTS_FILE))
        sizes[lane] = LaneSize(adapter.rank, len(adapter.pairs), adapter.num_parameters, num_bytes)
    return sizes


def as_dict(module: Module) -> dict[str, object]:
    """Everything that is known of a module, fit for JSON."""
    return {
        "ref": module.ref,
        "path": str(module.path),
        "manifest": module.manifest.model_dump(mode="json"),
        "lanes": {lane: dataclasses.asdict(size) for lane, size in lane_sizes(module).items()},
        "eval": module.scores(),
    }


def as_table(module: Module) -> Table:
    """The same for people: one row for each fact, without the manifest's hyperparameters."""
    manifest = module.manifest
    low, high = manifest.strength_bounds
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")

    def row(name: str, value: str) -> None:
        table.add_row(name, Text(value))  # Text: brackets in it are no markup

    row("module", module.ref)
    row("version", f"{manifest.version}, created {manifest.created:%Y-%m-%d %H:%M} UTC")
    row("forgets", manifest.description or "(not described)")
    row("rule", f"{rule_in_words(module.rule)}; strength may be {low:g} to {high:g}")
    for lane, size in lane_sizes(module).items():
        weight = f"{size.layers} layers, {size.parameters:,} parameters, {size.bytes:,} bytes"
        row(f"{lane} lane", f"LoRA of rank {size.rank}, {weight}")
    row("small model", f"{manifest.small_model.id}, {manifest.small_model.digest}")
    if manifest.plus_model is not None:
        row("plus model", f"{manifest.plus_model.id}, {manifest.plus_model.digest}")
    row("large model", manifest.large_model or "any with the small model's tokenizer")
    row("algorithm", manifest.algorithm)
    row("licence", manifest.licence)
    for name, value in _leaves(module.scores() or {}):
        row(f"eval {name}", f"{value:.4g}" if isinstance(value, float) else str(value))
    return table


def _leaves(tree: dict[str, object], path: str = "") -> Iterator[tuple[str, object]]:
    """Values below the objects of ``tree`` by dotted path."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
