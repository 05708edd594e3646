"""A Hugging Face model with a cache for many requests, each as long as it happens to be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM


class SlotCache:
    """Keys and values of ``slots`` requests; stands in for a transformers cache while one batch is computed."""

    is_compileable = False

    def __init__(self, config: Any, slots: int, length: int, dtype: torch.dtype, device: torch.device) -> None:
        heads = config.num_key_value_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (config.num_hidden_layers, slots, heads, length, size)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.rows: Any = slice(0)
        self.slots = torch.empty(0, dtype=torch.long)
        self.positions = torch.empty(0, 0, dtype=torch.long)

    def select(self, slots: list[int], positions: Tensor) -> None:
        """The next batch: its rows' slots, and the positions [rows, new] of its new tokens."""
        self.slots, self.positions = torch.tensor(slots, device=positions.device), positions
        together = slots == list(range(slots[0], slots[0] + len(slots)))
        self.rows = slice(slots[0], slots[-1] + 1) if together else self.slots  # a slice is not copied
        self.longest = int(positions.max()) + 1

    def update(self, key: Tensor, value: Tensor, layer: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        for stored, new in ((self.keys, key), (self.values, value)):
            stored[layer][self.slots[:, None], :, self.positions] = new.transpose(1, 2)
        return tuple(stored[layer][self.rows, :, : self.longest] for stored in (self.keys, self.values))  # type: ignore[return-value]

    def get_seq_length(self, layer: int = 0) -> int:
        return self.longest - self.positions.shape[1]

    def mask(self) -> Tensor:
        """[rows, 1, new, longest] bool: which stored tokens each new one sees."""
        return torch.arange(self.longest, device=self.positions.device) <= self.positions[:, None, :, None]


class SlotModel:
    """A causal language model over a :class:`SlotCache`, its adapter merged into its weights."""

    def __init__(self, path: Path, adapter: Path | None, slots: int, length: int, dtype: torch.dtype) -> None:
        self.model = load(path, adapter, dtype)
        self.cache = SlotCache(self.model.config, slots, length, dtype, self.model.device)

    @torch.inference_mode()
    def feed(self, slots: list[int], tokens: Sequence[Sequence[int]], cached: Sequence[int]) -> Tensor:
        """Logits [rows, vocab] after each row's last new token; every row has the same number of new ones."""
        ids = torch.tensor(tokens, device=self.model.device)
        start = torch.tensor(cached, device=self.model.device)
        positions = start[:, None] + torch.arange(ids.shape[1], device=self.model.device)
        self.cache.select(slots, positions)
        out = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=self.cache.mask(),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1].float()
        return logits


def load(path: Path, adapter: Path | None, dtype: torch.dtype) -> Any:
    """The model, with an adapter merged into it."""
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="sdpa")
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return model.eval()
