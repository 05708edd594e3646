"""What a run trains: adapters, the loss of a batch, and the ensemble that is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModelForCausalLM
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from lethe_offsets.manifest import Lane
from lethe_offsets.pair import Rule
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example
from lethe_offsets.training.ensemble import Ensemble
from lethe_offsets.training.logits import FixedLogits, LogitsFn, model_logits
from lethe_offsets.training.lora import add_adapter
from lethe_offsets.training.loss import Term, step_loss


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What every run of a sweep starts from: data, fixed logits and the small model.

    examples: the forget set's first, ``num_forget`` of them. special_ids [s] as in ``apply_rules``.
    """

    examples: Sequence[Example]
    num_forget: int
    fixed: FixedLogits
    small: PreTrainedModel
    special_ids: Tensor

    def ensemble(self, adapted: LogitsFn, rule: Rule) -> Ensemble:
        """``large`` with the offset of ``adapted`` from the small model."""
        return Ensemble(self.examples, self.fixed, adapted, rule, self.special_ids, self.small.device)


@dataclass(frozen=True, slots=True, eq=False)
class Trainee:
    """lanes: the adapted small model of each lane that the module will have.

    terms: the named terms of the loss over the examples of these indices; their sum is the loss.
    ensemble: what the module will make of the large model.
    """

    lanes: Mapping[Lane, PeftModelForCausalLM]
    terms: Callable[[Sequence[int]], dict[str, Term]]
    ensemble: Ensemble

    def lane_weights(self) -> dict[Lane, list[Parameter]]:
        """What is trained, by lane."""
        return {
            lane: [weight for weight in model.parameters() if weight.requires_grad]
            for lane, model in self.lanes.items()
        }

    def weights(self) -> dict[str, Parameter]:
        """What is trained, by name."""
        return {
            f"{lane}.{name}": weight
            for lane, model in self.lanes.items()
            for name, weight in model.named_parameters()
            if weight.requires_grad
        }

    def save(self, folder: Path) -> dict[Lane, Path]:
        """Write a PEFT LoRA adapter for each lane below ``folder``; their directories."""
        for lane, model in self.lanes.items():
            model.save_pretrained(str(folder / lane), save_embedding_layers=False)
        return {lane: folder / lane for lane in self.lanes}


def offset_trainee(config: TrainingConfig, material: Material) -> Trainee:
    """Offset unlearning: an adapter on the plus lane, trained on the ensemble's logits.

    "Offset Unlearning for Large Language Models" (arXiv 2404.11045): the large model and the minus lane are frozen,
    and only their logits are needed, so the large model may sit behind any function of token ids.
    """
    plus = add_adapter(config, material.small)
    ensemble = material.ensemble(model_logits(plus), config.rule)
    begins = torch.tensor(sorted(ensemble.unit_starts()), device=ensemble.device)
    return Trainee({"plus": plus}, lambda indices: step_loss(config, ensemble, indices, begins), ensemble)
