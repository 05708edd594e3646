"""New adapters over the small model."""

from __future__ import annotations

import copy

import torch
from peft import LoraConfig, PeftModelForCausalLM, TaskType
from transformers import PreTrainedModel

from lethe_offsets.training.config import TrainingConfig


def add_adapter(config: TrainingConfig, small: PreTrainedModel) -> PeftModelForCausalLM:
    """The small model with a new LoRA adapter on all linear layers, which changes nothing yet.

    The weights below it are those of ``small``, not copies; ``small`` itself stays as it is. Equal seeds give equal
    adapters.
    """
    lora = LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=config.rank, lora_alpha=config.lora_alpha, target_modules="all-linear"
    )
    shared = {id(weight): weight for weight in small.parameters()}  # deepcopy takes these for copied already
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        adapted = PeftModelForCausalLM(copy.deepcopy(small, shared), lora)
    lora.target_modules = sorted(lora.target_modules or ())  # PEFT's set has another order in each process
    return adapted.train(False)  # no dropout anywhere: a resumed run repeats an uninterrupted one
