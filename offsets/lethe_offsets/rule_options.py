"""The options of a command that makes a module: how its offset is to be applied."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lethe_offsets.errors import InvalidInput
from lethe_offsets.pair import Rule

DEFAULT = Rule()

Strength = Annotated[float, typer.Option(help="Factor on the offset.")]
PinSpecial = Annotated[bool, typer.Option(help="Special tokens keep the large model's probability.")]
Plausibility = Annotated[float, typer.Option(help="Leave tokens alone below this fraction of the largest probability.")]
Clip = Annotated[float | None, typer.Option(help="Bound on the absolute offset.")]
Mode = Annotated[Literal["linear", "rank"], typer.Option(help="Add the offset, or remove tokens by it.")]
RankK = Annotated[int, typer.Option(help="How many tokens rank mode removes.")]


def rule_of(
    strength: float,
    pin_special: bool,
    plausibility: float,
    clip: float | None,
    mode: Literal["linear", "rank"],
    rank_k: int,
) -> Rule:
    """The rule that the options give. Raises InvalidInput for one out of bounds."""
    try:
        return Rule(strength, pin_special, plausibility, clip, mode, rank_k)
    except ValueError as err:
        raise InvalidInput("rule", "the options given", str(err)) from err
