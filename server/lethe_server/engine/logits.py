"""Where the offset is applied: the model-level logits processor, before any number leaves the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.logits_processor import LogitsProcessor

from lethe_offsets.pair import RuleRows, apply_rules, apply_sum
from lethe_server.engine.adapters import AdapterSlots
from lethe_server.engine.clock import Clock
from lethe_server.engine.lanes import by_lane


class OffsetLogitsProcessor(LogitsProcessor):
    """Turns rows ``[large hidden | hidden of each lane | slot]`` into the offset distribution's logits.

    pairs: of lanes, a minus and a plus one each. special_ids: what ``pin_special`` pins. isolate_rows: whether the
    engine maps a row of NaN to its request; with draft tokens it can't, so then one unsound row fails every request of
    its step. clock: the model's own. dtypes: of the large model and of the pair; where they differ, ``hidden`` is of
    one that holds both.
    """

    special_ids: Tensor

    def __init__(
        self,
        vocab_size: int,
        pairs: int,
        special_ids: tuple[int, ...],
        isolate_rows: bool,
        clock: Clock,
        dtypes: tuple[torch.dtype, torch.dtype],
    ) -> None:
        super().__init__(vocab_size)
        self.pairs = pairs
        self.register_buffer("special_ids", torch.tensor(special_ids, dtype=torch.long), persistent=False)
        self.isolate_rows = isolate_rows
        self.clock = clock
        self.dtypes = dtypes

    def forward(  # type: ignore[override]  # two models' heads take the place of one
        self, large: Any, small: Any, hidden: Tensor, adapters: AdapterSlots | None
    ) -> Tensor | None:
        """hidden [n, large + 2 * pairs * small + 1] to logits [n, vocab]; None on ranks that hold no logits.

        Without a module in the batch the pair's heads are skipped and the large model's logits pass untouched; so are
        those of pairs beyond the most modules that a request of the batch has.
        """
        widths = [large.config.hidden_size, 2 * self.pairs * small.config.hidden_size, 1]
        large_rows, lanes, slots = torch.split(hidden, widths, dim=-1)
        # Contiguous: vLLM's products with AMX take the rows of a batch of two for neighbours.
        large_logits: Tensor | None = large.compute_logits(large_rows.to(self.dtypes[0]).contiguous())
        if adapters is None or not adapters.any_module:
            return large_logits
        with self.clock.pair:
            used = adapters.pairs_used
            rows = lanes[:, : 2 * used * small.config.hidden_size].reshape(2 * used * hidden.shape[0], -1)
            pair_logits = small.compute_logits(rows.to(self.dtypes[1]))
            return self._offset(large_logits, pair_logits, slots[:, 0].long(), adapters)

    def _offset(self, large: Tensor | None, pair: Any, slots: Tensor, adapters: AdapterSlots) -> Tensor | None:
        """pair [2 * pairs in use * n, small vocab]: a token's pairs, each a minus row, then a plus row."""
        if large is None or pair is None:
            return None
        rules = adapters.rules_of(slots)
        lanes = by_lane(pair, 2 * len(rules))
        pairs = list(zip(lanes[1::2], lanes[::2], strict=True))
        if adapters.fused and len(rules) == 1 and rules[0].only_scale:
            logits = add_offset(large, *pairs[0], rules[0])
        elif len(rules) == 1:
            logits = apply_rules(large, *pairs[0], rules[0], self.special_ids)
        else:
            logits = apply_sum(large, pairs, rules, self.special_ids)
        adapters.tallies.add(slots, large, pairs, logits, rules)
        if not self.isolate_rows:
            logits = torch.where(logits.isnan().any(), torch.nan, logits)
        return logits


def add_offset(large: Tensor, plus: Tensor, minus: Tensor, rules: RuleRows) -> Tensor:
    """``apply_rules`` for rules that only scale and clip, as one operator (``kernels``)."""
    clip = rules.clip if rules.any_clip else None
    logits: Tensor = torch.ops.lethe.add_offset(large, plus, minus, rules.strength, clip, rules.active)
    return logits
