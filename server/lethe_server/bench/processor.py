"""A peer: the offset from a sampling-time logits processor with two Hugging Face models inside the engine process.

This is how the field does it. Both models keep caches and run batched over the requests; prompts are read whole when
a request comes, outside vLLM's chunks. Log-probabilities, prompt log-probabilities and prefix caching stay wrong or
unused, as the README's comparison says; only its speed is of interest here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from lethe_server.bench.slot_cache import SlotModel


@dataclass
class Request:
    """prompt: token ids. output: vLLM's own list, which grows. cached: tokens that both models have seen."""

    prompt: list[int]
    output: list[int]
    slot: int = -1
    cached: int = 0
    offset: Tensor | None = None

    def pending(self) -> list[int]:
        return [*self.prompt, *self.output][self.cached :]


class PairProcessor(LogitsProcessor):
    """``logits += strength * (plus - minus)`` for every request.

    ``additional_config["bench_pair"]``: small, plus and minus (adapter directories or null) and strength.
    """

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        pair: Any = vllm_config.additional_config["bench_pair"]  # type: ignore[index]
        self.strength = float(pair["strength"])
        self.slots = vllm_config.scheduler_config.max_num_seqs
        model: Any = vllm_config.model_config
        length, dtype = model.max_model_len, model.dtype
        adapters = [Path(pair[lane]) if pair[lane] else None for lane in ("plus", "minus")]
        self.plus, self.minus = (SlotModel(Path(pair["small"]), a, self.slots, length, dtype) for a in adapters)
        self.requests: dict[int, Request] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        def new(params: SamplingParams, prompt: list[int] | None, output: list[int]) -> Request:
            return Request(list(prompt or ()), output)

        process_dict_updates(self.requests, batch_update, new)

    def apply(self, logits: Tensor) -> Tensor:
        self._place()
        groups: dict[int, list[Request]] = defaultdict(list)
        for request in self.requests.values():
            groups[len(request.pending())].append(request)
        groups.pop(0, None)  # a prompt that vLLM still reads in chunks: nothing new, the offset stands
        for group in groups.values():
            self._advance(sorted(group, key=lambda request: request.slot))
        rows = list(self.requests)
        offsets = [request.offset for request in self.requests.values() if request.offset is not None]
        logits[rows] += self.strength * torch.stack(offsets).to(logits.dtype)
        return logits

    def _place(self) -> None:
        """Give new requests the slots of those that have gone."""
        free = sorted(set(range(self.slots)) - {request.slot for request in self.requests.values()})
        for request in self.requests.values():
            if request.slot < 0:
                request.slot = free.pop(0)

    def _advance(self, group: list[Request]) -> None:
        slots, tokens = [r.slot for r in group], [r.pending() for r in group]
        cached = [r.cached for r in group]
        offsets = self.plus.feed(slots, tokens, cached) - self.minus.feed(slots, tokens, cached)
        for request, new, offset in zip(group, tokens, offsets, strict=True):
            request.offset = offset
            request.cached += len(new)
