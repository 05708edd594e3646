"""The model card that a new module carries as its ``README.md``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from lethe_offsets.adapter import LaneAdapter
from lethe_offsets.manifest import Lane, Manifest
from lethe_offsets.pair import Rule

TEMPLATE = """\
# {name} {version}

A forget module for Lethe. Beside a large language model it makes the served model behave as if it had not learned
the following; the large model's weights stay as they are.

> {description}

| | |
|---|---|
| rule | {rule} |
| strength | {low:g} to {high:g} |
| small model | {small_model} |
{lanes}
| made for | {large_model} |
| algorithm | {algorithm} |
| licence | {licence} |

`offset.json` is the manifest, `SHA256SUMS` the identity; `sha256sum -c SHA256SUMS` and `lethe module verify .` check
it. Scores, once measured, are in `eval.json`.
"""


def model_card(manifest: Manifest, adapters: Mapping[Lane, LaneAdapter]) -> str:
    """Markdown for a module with this manifest and these adapters."""
    low, high = manifest.strength_bounds
    lanes = [
        f"| {lane} lane | LoRA of rank {adapter.rank}, {adapter.num_parameters:,} parameters |"
        for lane, adapter in adapters.items()
    ]
    small_model = f"`{manifest.small_model.id}`, {manifest.small_model.digest}"
    if manifest.plus_model is not None:
        small_model += f"; plus lane: `{manifest.plus_model.id}`, {manifest.plus_model.digest}"
    return TEMPLATE.format(
        name=manifest.name,
        version=manifest.version,
        description="\n> ".join(manifest.description.splitlines()) or "(not described)",
        rule=rule_in_words(manifest.rule),
        low=low,
        high=high,
        small_model=small_model,
        lanes="\n".join(lanes),
        large_model=manifest.large_model or "any large model with the small model's tokenizer",
        algorithm=manifest.algorithm,
        licence=manifest.licence,
    )


def rule_in_words(rule: Rule) -> str:
    """A rule on one line: its mode and strength, and the other settings that are not at their default."""
    mode = f"rank mode, {rule.rank_k} tokens removed" if rule.mode == "rank" else "linear"
    shown = ("mode", "rank_k", "strength")
    others = [f for f in dataclasses.fields(Rule) if f.name not in shown and getattr(rule, f.name) != f.default]
    return ", ".join(
        [mode, f"strength {rule.strength:g}", *(f"{field.name} {getattr(rule, field.name)}" for field in others)]
    )
