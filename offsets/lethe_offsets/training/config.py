"""Everything a training run can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lethe_offsets.pair import Rule
from lethe_offsets.training.objectives import KL, NPO, ForgetObjective, RetainObjective


class TrainingConfig(BaseModel):
    """Settings of one training run. Unknown keys are refused; nothing here depends on the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: ForgetObjective = Field(default=NPO(), description="What pushes the forget set's answers down.")
    retain: RetainObjective = Field(default=KL(), description="What holds everything else in place.")
    instead_weight: float = Field(default=1.0, gt=0.0, description="Weight of what is taught to be said instead.")
    rule: Rule = Field(default=Rule(), description="How the offset is applied, in training as when it is served.")
    rank: int = Field(default=16, ge=1, description="LoRA rank, over all linear layers of the small model.")
    lora_alpha: int = Field(default=32, ge=1, description="LoRA scale times rank.")
    learning_rate: float = Field(default=1e-3, gt=0.0, description="Peak, after a linear warm-up; cosine to zero.")
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0, description="Share of the steps spent warming up.")
    weight_decay: float = Field(default=0.0, ge=0.0, description="AdamW's.")
    max_grad_norm: float = Field(default=1.0, gt=0.0, description="Gradients above this norm are scaled down.")
    epochs: int = Field(default=5, ge=1, description="Passes over the forget set.")
    batch_size: int = Field(default=16, ge=1, description="Forget examples a step.")
    retain_batch_size: int = Field(default=16, ge=1, description="Retain examples a step.")
    max_length: int = Field(default=1024, ge=2, description="Longer examples, in tokens, are refused.")
    retain_around: bool = Field(
        default=False,
        description="Let the retain term compare the vocabulary without the tokens that begin something forgotten. "
        "For words to be forgotten everywhere: wherever they might have stood, the two terms would otherwise pull "
        "against each other.",
    )
    checkpoint_every: int = Field(default=100, ge=1, description="Steps; what an interruption can cost.")
    cache_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="How the large model's and the minus lane's logits are kept on disk."
    )
    seed: int = Field(default=0, description="Draws the adapter's start and the order of the examples.")

    @field_validator("rule")
    @classmethod
    def _differentiable(cls, rule: Rule) -> Rule:
        if rule.mode != "linear":
            raise ValueError(f"mode must be 'linear' to be trained through, got {rule.mode!r}")
        if rule.strength == 0.0:
            raise ValueError("strength must not be 0: no gradient would reach the adapter")
        return rule
