"""Who is compared: the target and a retrained model first, then every way of forgetting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lethe_offsets.errors import InvalidInput
from lethe_offsets.pair import Rule

Kind = Literal["model", "direct", "offset", "pair"]
Small = Literal["small", "clean"]
"""Which small model carries the module: one that knows the full set, or one that never saw what is to be forgotten."""

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
RANKS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class Contender:
    """A row of the table.

    method: of ``lethe train``; "" for the two models. mode: how a pair's offset is applied.
    """

    name: str
    title: str
    kind: Kind
    method: str = ""
    mode: Literal["linear", "rank"] = "linear"
    small: Small = "small"

    @property
    def training(self) -> str:
        """What names its training; two modes of one pair share it."""
        return f"{self.kind}-{self.method}-{self.small}"

    def rules(self, own: Rule) -> tuple[Rule, ...]:
        """The rules that are tried with a trained module: a pair's is to be calibrated, all others keep their own."""
        if self.kind != "pair":
            return (own,)
        if self.mode == "rank":
            return tuple(replace(own, mode="rank", rank_k=k) for k in RANKS)
        return tuple(replace(own, strength=strength) for strength in STRENGTHS)


TARGET = Contender("target", "Target", "model")
RETRAIN = Contender("retrain", "Retrain", "model")

DIRECT_TITLES = {
    "grad_ascent": "GA",
    "grad_diff": "GradDiff",
    "kl_min": "KL",
    "dpo": "DPO",
    "npo": "NPO",
    "simnpo": "SimNPO",
}
OFFSET_METHODS = (*DIRECT_TITLES, "idk", "me_gd", "idk_ap", "undial", "uld")
PAIR = "retain_forget_pair"

CONTENDERS: tuple[Contender, ...] = (
    TARGET,
    RETRAIN,
    *(Contender(f"direct-{m}", f"direct {title}", "direct", m) for m, title in DIRECT_TITLES.items()),
    *(Contender(f"offset-{m}", f"offset {DIRECT_TITLES.get(m, m)}", "offset", m) for m in OFFSET_METHODS),
    Contender("pair-linear", "pair, linear", "pair", PAIR),
    Contender("pair-rank", "pair, rank", "pair", PAIR, "rank"),
    Contender("clean-pair-linear", "pair, linear, clean small model", "pair", PAIR, "linear", "clean"),
    Contender("clean-pair-rank", "pair, rank, clean small model", "pair", PAIR, "rank", "clean"),
)


def choose_contenders(names: str | None) -> tuple[Contender, ...]:
    """Target, Retrain and those of the given names or kinds, separated by commas; all without names.

    Raises InvalidInput for a name that is neither.
    """
    if names is None:
        return CONTENDERS
    wanted = {name.strip() for name in names.split(",")}
    known = {contender.name for contender in CONTENDERS} | {contender.kind for contender in CONTENDERS}
    if unknown := wanted - known:
        raise InvalidInput("methods", ", ".join(sorted(unknown)), ", ".join(sorted(known)))
    return tuple(c for c in CONTENDERS if c.kind == "model" or {c.name, c.kind} & wanted)
