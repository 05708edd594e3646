"""The options of a command that makes a module: how its offset is to be applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lethe_offsets.errors import InvalidInput

if TYPE_CHECKING:
    from lethe_offsets.pair import Rule


@dataclass(frozen=True)
class Defaults:
    """Those of ``pair.Rule``, which are not to be had without torch: seconds, at each TAB of a shell that completes."""

    strength: float = 1.0
    pin_special: bool = False
    plausibility: float = 0.0
    clip: float | None = None
    mode: Literal["linear", "rank"] = "linear"
    rank_k: int = 20
    gate: float = 0.0


DEFAULT = Defaults()

Strength = Annotated[float, typer.Option(help="Factor on the offset.")]
PinSpecial = Annotated[bool, typer.Option(help="Special tokens keep the large model's probability.")]
Plausibility = Annotated[float, typer.Option(help="Leave tokens alone below this fraction of the largest probability.")]
Clip = Annotated[float | None, typer.Option(help="Bound on the absolute offset.")]
Mode = Annotated[Literal["linear", "rank"], typer.Option(help="Add the offset, or remove tokens by it.")]
RankK = Annotated[int, typer.Option(help="How many tokens rank mode removes.")]
Gate = Annotated[float, typer.Option(help="Leave positions alone where the offset is smaller, in nats.")]


def rule_of(
    strength: float,
    pin_special: bool,
    plausibility: float,
    clip: float | None,
    mode: Literal["linear", "rank"],
    rank_k: int,
    gate: float,
) -> Rule:
    """The rule that the options give. Raises InvalidInput for one out of bounds."""
    from lethe_offsets.pair import Rule  # imports torch, which takes seconds

    try:
        return Rule(strength, pin_special, plausibility, clip, mode, rank_k, gate)
    except ValueError as err:
        raise InvalidInput("rule", "the options given", str(err)) from err
