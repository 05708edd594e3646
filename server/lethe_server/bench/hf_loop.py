"""A peer: three Hugging Face models with caches in a loop, without a server.

``python -m lethe_server.bench.hf_loop LARGE SMALL PLUS DTYPE`` reads one JSON line for each cell and answers with one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from lethe_server.bench.measurement import Times, measure
from lethe_server.bench.slot_cache import load
from lethe_server.collector import frozen_heap


class ThreeModels:
    """Large, plus and minus; a batch of prompts of one length goes through all three, token by token."""

    def __init__(self, large: Path, small: Path, plus: Path | None, dtype: torch.dtype) -> None:
        self.models = [load(large, None, dtype), load(small, plus, dtype), load(small, None, dtype)]

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], tokens: int, strength: float = 1.0) -> tuple[list[list[int]], Times]:
        """Greedy tokens [rows][tokens], and when each step's tokens were there."""
        caches = [DynamicCache(config=model.config) for model in self.models]
        sent = time.perf_counter()
        ids, chosen, arrived = torch.tensor(prompts), [], []
        for _ in range(tokens):
            ids = self._step(ids, caches, strength)
            chosen.append(ids)
            arrived.append(time.perf_counter())
        return torch.cat(chosen, dim=1).tolist(), Times(sent, tuple(arrived), tokens)

    def _step(self, ids: Tensor, caches: list[Any], strength: float) -> Tensor:
        large, plus, minus = (
            model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
            for model, cache in zip(self.models, caches, strict=True)
        )
        logits: Tensor = large + strength * (plus - minus)
        return logits.argmax(dim=-1, keepdim=True)


def main() -> None:
    large, small, plus = (Path(argument) for argument in sys.argv[1:4])
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # every core; vLLM leaves one to its server
    models = ThreeModels(large, small, plus, getattr(torch, sys.argv[4]))
    models.generate([[2, 3, 4]], 2)
    with frozen_heap():
        for line in sys.stdin:
            order = json.loads(line)
            waves = []
            for wave in order["waves"]:
                _, times = models.generate(wave, order["output_tokens"])
                waves.append([times] * len(wave))
            print(json.dumps(measure(waves).to_json()), flush=True)


if __name__ == "__main__":
    main()
