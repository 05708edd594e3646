"""Where an interrupted run goes on: adapter, optimizer and step, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Parameter

from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example

CHECKPOINT_FILE = "checkpoint.safetensors"


def fingerprint(config: TrainingConfig, examples: Sequence[Example]) -> str:
    """Digest of the settings and the encoded data: a checkpoint belongs to one of them."""
    content = [config.model_dump(mode="json"), [[e.ids, e.answer, e.unit, e.taught] for e in examples]]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def save_checkpoint(
    path: Path, step: int, run: str, weights: Mapping[str, Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Write atomically: the old checkpoint stays until the new one is whole."""
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        tensors[f"weight.{name}"] = weight.detach().contiguous()
        for key, value in optimizer.state[weight].items():
            tensors[f"{key}.{name}"] = value.detach().contiguous()
    draft = path.with_suffix(".draft")
    save_file(tensors, draft, metadata={"step": str(step), "run": run})
    os.replace(draft, path)


def load_checkpoint(path: Path, run: str, weights: Mapping[str, Parameter], optimizer: torch.optim.Optimizer) -> int:
    """Restore weights and optimizer in place; the number of steps done, 0 where there is no checkpoint.

    Raises InvalidInput for the checkpoint of another run.
    """
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        if metadata["run"] != run:
            raise InvalidInput("checkpoint", str(path), "one of the same settings and data; delete it to start afresh")
        for name, weight in weights.items():
            weight.data.copy_(file.get_tensor(f"weight.{name}"))
            optimizer.state[weight] = {
                key: file.get_tensor(f"{key}.{name}").to("cpu" if key == "step" else weight.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
    return int(metadata["step"])
