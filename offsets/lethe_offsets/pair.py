"""The mathematics of an offset: tensors in, tensors out.

``logits = large + strength * (plus - minus)`` with the refinements of a :class:`Rule`. The engine, the trainer and
the evaluator all call :func:`apply_rules`, so a module behaves in training as it does when it is served; for rules
that only scale and clip, the engine has it as one operator on the CPU. Several modules at once add their offsets:
:func:`apply_sum`.

Sources: the offset on the ensemble's logits, "Offset Unlearning for Large Language Models" (arXiv 2404.11045); the
plausibility floor, ULD (arXiv 2406.08607); rank mode, divergence decoding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

MAX_STRENGTH = 16.0
MAX_RANK_K = 1024
# Logits (nats) below the largest one: probability zero in float32, but finite, so that a grammar which allows nothing
# else still has an answer; the same for all removed tokens, so that such a grammar can't read their order.
REMOVED = 1e4


@dataclass(frozen=True, slots=True)
class Rule:
    """How one module's offset is applied.

    strength: factor on the offset, in [-16, 16]; 1.0 for modules trained on the ensemble.
    pin_special: special tokens keep the large model's probability, the rest is renormalised.
    plausibility: in [0, 1); tokens whose large-model probability is below this fraction of the largest one keep the
        large model's logit. 0 switches the floor off.
    clip: bound on ``abs(plus - minus)`` in logits (nats) before the strength; None for no bound.
    mode: ``linear`` adds the offset; ``rank`` removes the ``rank_k`` tokens with the most negative offset.
    rank_k: how many tokens ``rank`` removes; unused by ``linear``.
    gate: positions where the offset is smaller than this, KL(plus || minus) in nats, keep the large model's logits;
        0 for no gate. Nothing is learned through a closed one: it belongs to modules that have been trained.

    Raises ValueError with the field, the value and what is accepted.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # an unknown key in a manifest is refused

    strength: float = 1.0
    pin_special: bool = False
    plausibility: float = 0.0
    clip: float | None = None
    mode: Literal["linear", "rank"] = "linear"
    rank_k: int = 20
    gate: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.strength) and abs(self.strength) <= MAX_STRENGTH):
            raise ValueError(f"strength must be within [-{MAX_STRENGTH:g}, {MAX_STRENGTH:g}], got {self.strength}")
        if not 0.0 <= self.plausibility < 1.0:
            raise ValueError(f"plausibility must be at least 0 and below 1, got {self.plausibility}")
        if self.clip is not None and not (math.isfinite(self.clip) and self.clip > 0.0):
            raise ValueError(f"clip must be a positive number or null, got {self.clip}")
        if self.mode not in ("linear", "rank"):
            raise ValueError(f"mode must be 'linear' or 'rank', got {self.mode!r}")
        if not 1 <= self.rank_k <= MAX_RANK_K:
            raise ValueError(f"rank_k must be from 1 to {MAX_RANK_K}, got {self.rank_k}")
        if not (math.isfinite(self.gate) and self.gate >= 0.0):
            raise ValueError(f"gate must be a number of nats, 0 for none, got {self.gate}")


@dataclass(frozen=True, slots=True, eq=False)
class RuleRows:
    """Rules of n rows as tensors of shape [n], float32, bool or long; the flags say on the host which terms occur.

    strength: NaN where a row has a module and its rule is unknown. active: the row has a module; None where all have.
    """

    strength: Tensor
    pin_special: Tensor
    log_plausibility: Tensor
    clip: Tensor
    rank_k: Tensor
    gate: Tensor
    active: Tensor | None
    any_pin: bool
    any_plausibility: bool
    any_clip: bool
    any_gate: bool
    max_rank_k: int

    @classmethod
    def stack(cls, rules: Sequence[Rule | None], device: torch.device | str = "cpu") -> RuleRows:
        """Rows of known rules; None is a row with a module whose rule is unknown."""
        known = [rule or Rule() for rule in rules]

        def floats(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        ranks = [rule.rank_k if rule.mode == "rank" else 0 for rule in known]
        return cls(
            strength=floats([rule.strength if rule else math.nan for rule in rules]),
            pin_special=torch.tensor([rule.pin_special for rule in known], dtype=torch.bool, device=device),
            log_plausibility=floats([math.log(r.plausibility) if r.plausibility else -math.inf for r in known]),
            clip=floats([math.inf if rule.clip is None else rule.clip for rule in known]),
            rank_k=torch.tensor(ranks, dtype=torch.long, device=device),
            gate=floats([rule.gate for rule in known]),
            active=None,
            any_pin=any(rule.pin_special for rule in known),
            any_plausibility=any(rule.plausibility > 0.0 for rule in known),
            any_clip=any(rule.clip is not None for rule in known),
            any_gate=any(rule.gate > 0.0 for rule in known),
            max_rank_k=max(ranks, default=0),
        )

    @property
    def only_scale(self) -> bool:
        """Whether strengths and clips are all there is: nothing is put in an offset's place."""
        return not (self.max_rank_k or self.any_pin or self.any_plausibility or self.any_gate)

    def take(self, rows: Tensor, all_active: bool = False) -> RuleRows:
        """The rules of ``rows`` (long, shape [m]); a negative index is a row without a module.

        all_active: there is none. Terms that no rule has are not gathered.
        """
        index = rows if all_active else rows.clamp_min(0)
        return RuleRows(
            strength=self.strength[index],
            pin_special=self.pin_special[index] if self.any_pin else self.pin_special,
            log_plausibility=self.log_plausibility[index] if self.any_plausibility else self.log_plausibility,
            clip=self.clip[index] if self.any_clip else self.clip,
            rank_k=self.rank_k[index] if self.max_rank_k else self.rank_k,
            gate=self.gate[index] if self.any_gate else self.gate,
            active=None if all_active else rows >= 0,
            any_pin=self.any_pin,
            any_plausibility=self.any_plausibility,
            any_clip=self.any_clip,
            any_gate=self.any_gate,
            max_rank_k=self.max_rank_k,
        )


def pad_offset(offset: Tensor, width: int) -> Tensor:
    """The offset [n, shared] cut or zero-padded to ``width``: beyond the shared vocabulary it is zero."""
    if offset.shape[-1] >= width:
        return offset[..., :width]
    return torch.nn.functional.pad(offset, (0, width - offset.shape[-1]))


def apply_rules(large: Tensor, plus: Tensor, minus: Tensor, rules: RuleRows, special_ids: Tensor) -> Tensor:
    """The offset distribution's logits, float32, shape [n, vocab].

    large [n, vocab], plus and minus [n, small vocab]: logits of the three models, any float dtype.
    special_ids [s]: long, ids that ``pin_special`` pins.

    A row without a module is the large row unchanged. A row whose rule is unknown or whose offset is not finite is
    NaN throughout: the caller must fail its request. Differentiable in ``plus`` and ``minus`` for linear rules.
    """
    large = large.float()
    if rules.only_scale:  # the usual case, in as few passes over the vocabulary as there can be
        offset, poison = _offset(plus, minus, rules, large.shape[-1])
        out = torch.addcmul(large, offset, rules.strength[:, None] + poison)
    else:
        out = _by_all_terms(large, plus, minus, rules, special_ids)
    return out if rules.active is None else torch.where(rules.active[:, None], out, large)


def _by_all_terms(large: Tensor, plus: Tensor, minus: Tensor, rules: RuleRows, special_ids: Tensor) -> Tensor:
    shift, poison = _shift(large, plus, minus, rules)
    out = large + shift
    if rules.max_rank_k:
        linear = (rules.rank_k == 0)[:, None]
        ranked = torch.where(_most_negative(shift, rules, special_ids), _removed(large), large)
        out = torch.where(linear, out, ranked)
    if rules.any_pin:
        out = torch.where(rules.pin_special[:, None], _pin(large, out, special_ids), out)
    return out + poison


def apply_sum(
    large: Tensor, pairs: Sequence[tuple[Tensor, Tensor]], rules: Sequence[RuleRows], special_ids: Tensor
) -> Tensor:
    """The logits under several modules at once, as :func:`apply_rules` gives them for one; ``rules`` go with ``pairs``.

    pairs: plus and minus logits [n, small vocab] of each module. A row without a module in some place has a negative
    index there (see ``RuleRows.take``): that pair is not looked at.

    Linear modules add their offsets, each with its own strength, clip and plausibility floor. Then the tokens of every
    module in rank mode are removed. Special tokens are pinned if any of the modules pins. One unsound or unknown module
    spoils the row. The order of the modules means nothing.
    """
    large = large.float()
    total, poison = torch.zeros_like(large), torch.zeros_like(large[:, :1])
    removed, pinned = torch.zeros_like(large, dtype=torch.bool), torch.zeros_like(poison, dtype=torch.bool)
    anyone = torch.zeros_like(pinned)
    for (plus, minus), own in zip(pairs, rules, strict=True):
        mine = torch.ones_like(pinned) if own.active is None else own.active[:, None]
        shift, unsound = _shift(large, plus, minus, own)
        linear = mine & (own.rank_k == 0)[:, None] if own.max_rank_k else mine
        total = total + torch.where(linear, shift, 0.0)
        # An unknown rule is poison too: what others remove or pin would cover its NaN.
        poison = poison + torch.where(mine, unsound + 0.0 * own.strength[:, None], 0.0)
        anyone = anyone | mine
        if own.max_rank_k:
            removed |= mine & _most_negative(shift, own, special_ids)
        if own.any_pin:
            pinned = pinned | (mine & own.pin_special[:, None])
    out = large + total
    if any(own.max_rank_k for own in rules):
        out = torch.where(removed, _removed(large), out)
    if any(own.any_pin for own in rules):
        out = torch.where(pinned, _pin(large, out, special_ids), out)
    return torch.where(anyone, out + poison, large)


def _shift(large: Tensor, plus: Tensor, minus: Tensor, rules: RuleRows) -> tuple[Tensor, Tensor]:
    """What a linear rule adds [n, vocab], and [n, 1] zero, or NaN for a row whose offset is not finite."""
    offset, poison = _offset(plus, minus, rules, large.shape[-1])
    shift = offset * rules.strength[:, None]
    if rules.any_plausibility:
        floor = large.amax(dim=-1, keepdim=True) + rules.log_plausibility[:, None]
        shift = torch.where(large < floor, 0.0, shift)
    if rules.any_gate:
        shift = torch.where(divergence(plus, minus)[:, None] < rules.gate[:, None], 0.0, shift)
    return shift, poison


def _offset(plus: Tensor, minus: Tensor, rules: RuleRows, width: int) -> tuple[Tensor, Tensor]:
    """The clipped offset [n, width], and [n, 1] zero, or NaN for a row that was not finite before it was clipped."""
    offset = pad_offset(plus.float() - minus, width)
    poison = offset.detach().sum(dim=-1, keepdim=True) * 0.0  # cheaper than asking every element
    if rules.any_clip:
        offset = torch.minimum(torch.maximum(offset, -rules.clip[:, None]), rules.clip[:, None])
    return offset, poison


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """KL(softmax(logits) || softmax(others)) in nats, [...], of logits [..., vocab]."""
    ours, theirs = logits.float().log_softmax(dim=-1), others.float().log_softmax(dim=-1)
    return (ours.exp() * (ours - theirs)).sum(dim=-1)


def _removed(large: Tensor) -> Tensor:
    """[n, 1]: the logit of tokens that ``rank`` removes."""
    return large.amax(dim=-1, keepdim=True) - REMOVED


def _most_negative(shift: Tensor, rules: RuleRows, special_ids: Tensor) -> Tensor:
    """Mask [n, vocab] of each row's ``rank_k`` most negative shifts; zero and positive shifts are never taken."""
    if rules.any_pin:
        pinned = shift.index_fill(-1, special_ids, 0.0)
        shift = torch.where(rules.pin_special[:, None], pinned, shift)
    k = min(rules.max_rank_k, shift.shape[-1] - 1)
    values, ids = shift.topk(k, dim=-1, largest=False, sorted=True)
    taken = (torch.arange(k, device=shift.device) < rules.rank_k[:, None]) & (values < 0)
    return torch.zeros_like(shift, dtype=torch.bool).scatter(-1, ids, taken)


def _pin(large: Tensor, out: Tensor, special_ids: Tensor) -> Tensor:
    """``out`` with special tokens at the large model's probability and the other tokens sharing the rest."""
    others_large = large.index_fill(-1, special_ids, -math.inf).logsumexp(dim=-1, keepdim=True)
    others_out = out.index_fill(-1, special_ids, -math.inf).logsumexp(dim=-1, keepdim=True)
    pinned = out + (others_large - others_out)
    return pinned.index_copy(-1, special_ids, large.index_select(-1, special_ids))
