"""Which tokens a rule with ``pin_special`` pins: one answer for engine, trainer and evaluator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def special_ids(special: Iterable[int], ends: Iterable[int | Sequence[int] | None], vocab_size: int) -> tuple[int, ...]:
    """Special and end-of-sequence ids within the large model's vocabulary, sorted.

    special: the tokenizer's. ends: what the large model's configs name as ``eos_token_id``, one id, several or none.
    """
    ids = set(special)
    for end in ends:
        ids |= {end} if isinstance(end, int) else set(end or ())
    return tuple(sorted(i for i in ids if i < vocab_size))
