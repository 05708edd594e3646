"""Where an interrupted run goes on: adapters, optimizer, step and scores so far, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter

from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example
from lethe_offsets.training.scores import Score
from lethe_offsets.writing import replacing

CHECKPOINT_FILE = "checkpoint.safetensors"
KEPT_FILE = "kept.safetensors"
SCORES: TypeAdapter[list[Score]] = TypeAdapter(list[Score])


def fingerprint(config: TrainingConfig, examples: Sequence[Example], models: Sequence[str] = ()) -> str:
    """Digest of the settings, the encoded data and what names the models: a checkpoint belongs to one of them."""
    content = [config.model_dump(mode="json"), [astuple(example) for example in examples], list(models)]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoints:
    """The checkpoints of one run in ``folder``; ``run`` is its fingerprint."""

    folder: Path
    run: str
    weights: Mapping[str, Parameter]
    optimizer: torch.optim.Optimizer

    def save(self, step: int, scores: Sequence[Score]) -> None:
        """Write atomically: the old checkpoint stays until the new one is whole."""
        tensors: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            tensors[f"weight.{name}"] = weight.detach().contiguous()
            for key, value in self.optimizer.state[weight].items():
                tensors[f"{key}.{name}"] = value.detach().contiguous()
        metadata = {"step": str(step), "run": self.run, "scores": SCORES.dump_json(list(scores)).decode()}
        _write(self.folder / CHECKPOINT_FILE, tensors, metadata)

    def load(self) -> tuple[int, list[Score]]:
        """Restore weights and optimizer in place; the steps done and the scores, (0, []) without a checkpoint.

        Raises InvalidInput for the checkpoint of another run.
        """
        path = self.folder / CHECKPOINT_FILE
        if not path.is_file():
            return 0, []
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if metadata["run"] != self.run:
                accepted = "one of the same settings, models and data; delete it to start afresh"
                raise InvalidInput("checkpoint", str(path), accepted)
            for name, weight in self.weights.items():
                weight.data.copy_(file.get_tensor(f"weight.{name}"))
                self.optimizer.state[weight] = {
                    key: file.get_tensor(f"{key}.{name}").to("cpu" if key == "step" else weight.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
        return int(metadata["step"]), SCORES.validate_json(metadata["scores"])

    def keep(self) -> None:
        """Save the weights as they are now, for ``restore_kept``."""
        _write(self.folder / KEPT_FILE, {name: weight.detach().contiguous() for name, weight in self.weights.items()})

    def restore_kept(self) -> None:
        """Go back to the weights at the last ``keep``."""
        kept = load_file(self.folder / KEPT_FILE)
        for name, weight in self.weights.items():
            weight.data.copy_(kept[name])


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    with replacing(path) as draft:
        save_file(dict(tensors), draft, metadata=dict(metadata or {}))
