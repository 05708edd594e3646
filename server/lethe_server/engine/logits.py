"""Where the offset is applied: the model-level logits processor, before any number leaves the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.logits_processor import LogitsProcessor

from lethe_offsets.pair import apply_rules
from lethe_server.engine.adapters import AdapterSlots
from lethe_server.engine.clock import Clock
from lethe_server.engine.lanes import by_lane


class OffsetLogitsProcessor(LogitsProcessor):
    """Turns rows ``[large hidden | minus hidden | plus hidden | slot]`` into the offset distribution's logits.

    special_ids: what ``pin_special`` pins. isolate_rows: whether the engine maps a row of NaN to its request; with
    draft tokens it can't, so then one unsound row fails every request of its step. clock: the model's own.
    dtypes: of the large model and of the pair; where they differ, ``hidden`` is of one that holds both.
    """

    special_ids: Tensor

    def __init__(
        self,
        vocab_size: int,
        special_ids: tuple[int, ...],
        isolate_rows: bool,
        clock: Clock,
        dtypes: tuple[torch.dtype, torch.dtype],
    ) -> None:
        super().__init__(vocab_size)
        self.register_buffer("special_ids", torch.tensor(special_ids, dtype=torch.long), persistent=False)
        self.isolate_rows = isolate_rows
        self.clock = clock
        self.dtypes = dtypes

    def forward(  # type: ignore[override]  # two models' heads take the place of one
        self, large: Any, small: Any, hidden: Tensor, adapters: AdapterSlots | None
    ) -> Tensor | None:
        """hidden [n, large + 2 * small + 1] to logits [n, vocab]; None on ranks that hold no logits.

        Without a module in the batch the pair's heads are skipped and the large model's logits pass untouched.
        """
        widths = [large.config.hidden_size, 2 * small.config.hidden_size, 1]
        large_rows, pair_rows, slots = torch.split(hidden, widths, dim=-1)
        large_logits: Tensor | None = large.compute_logits(large_rows.to(self.dtypes[0]))
        if adapters is None or not adapters.any_module:
            return large_logits
        with self.clock.pair:
            rows = pair_rows.reshape(2 * hidden.shape[0], -1).to(self.dtypes[1])
            pair_logits = small.compute_logits(rows)
            return self._offset(large_logits, pair_logits, slots[:, 0].long(), adapters)

    def _offset(self, large: Tensor | None, pair: Any, slots: Tensor, adapters: AdapterSlots) -> Tensor | None:
        """pair [2n, small vocab]: a minus row, then a plus row."""
        if large is None or pair is None:
            return None
        minus, plus = by_lane(pair)
        rules = adapters.rules.take(slots, adapters.all_modules)
        logits = apply_rules(large, plus, minus, rules, self.special_ids)
        adapters.tallies.add(slots, large, plus, minus, logits, rules)
        if not self.isolate_rows:
            logits = torch.where(logits.isnan().any(), torch.nan, logits)
        return logits
