"""Everything a training run can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lethe_offsets.manifest import Lane
from lethe_offsets.pair import Rule
from lethe_offsets.training.objectives import KL, NPO, ForgetObjective, RetainObjective, Trained

RETAINS: dict[Trained, set[str | None]] = {
    "ensemble": {"kl", "cross_entropy", "answer_preservation", None},
    "assistant": {"uniform"},
    "lane": {"cross_entropy"},
}
"""The retain terms that fit what is trained; None for no such term."""


class TrainingConfig(BaseModel):
    """Settings of one training run. Unknown keys are refused; nothing here depends on the machine.

    A field's description is its effect, as the methods' YAML files say it beside the value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: ForgetObjective = Field(default=NPO(), description="What pushes the forget set's answers down.")
    retain: RetainObjective | None = Field(default=KL(), description="What holds everything else in place.")
    instead_weight: float = Field(default=1.0, gt=0.0, description="Weight of what is taught to be said instead.")
    retain_around: bool = Field(
        default=False,
        description="Let the retain term compare the vocabulary without the tokens that begin something forgotten. "
        "For words to be forgotten everywhere: wherever they might have stood, the two terms would otherwise pull "
        "against each other.",
    )
    rule: Rule = Field(default=Rule(), description="How the offset is applied, in training as when it is served.")
    rank: int = Field(default=16, ge=1, description="LoRA rank, over all linear layers of the small model.")
    lora_alpha: int = Field(default=32, ge=1, description="LoRA scale times rank.")
    attribution_share: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="Share of the small model's weights that the adapter may change, those that matter most to what "
        "is forgotten (WAGLE, arXiv 2410.17509); 1.0 is all.",
    )
    learning_rate: float = Field(default=1e-3, gt=0.0, description="Peak, after a linear warm-up; cosine to zero.")
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0, description="Share of the steps spent warming up.")
    weight_decay: float = Field(default=0.01, ge=0.0, description="AdamW's, towards an adapter that changes nothing.")
    max_grad_norm: float = Field(default=1.0, gt=0.0, description="Gradients above this norm are scaled down.")
    epochs: int = Field(default=5, ge=1, description="Passes over the forget set.")
    batch_size: int = Field(default=16, ge=1, description="Forget examples a step.")
    retain_batch_size: int = Field(default=16, ge=1, description="Retain examples a step.")
    max_length: int = Field(default=1024, ge=2, description="Longer examples, in tokens, are refused.")
    score_every: int = Field(default=20, ge=1, description="Steps between two scores of both sets.")
    early_stop_retain: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Stop when the retain score is below this share of its start; 0 is off.",
    )
    checkpoint_every: int = Field(default=100, ge=1, description="Steps; what an interruption can cost.")
    dtype: Literal["float32", "bfloat16"] = Field(default="float32", description="What both models compute in.")
    cache_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="How the large model's and the minus lane's logits are kept on disk."
    )
    seed: int = Field(default=0, description="Draws the adapter's start, the order of the examples and refusals.")

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lanes that get an adapter."""
        return self.objective.lanes

    @model_validator(mode="after")
    def _fits(self) -> TrainingConfig:
        name, trained = self.objective.name, self.objective.trained
        retain = self.retain and self.retain.name
        if retain not in RETAINS[trained]:
            accepted = " or ".join(sorted(str(name or "none") for name in RETAINS[trained]))
            raise ValueError(f"retain must be {accepted} for {name}, got {retain or 'none'!r}")
        if self.rule.mode != "linear" and trained == "ensemble":
            raise ValueError(f"mode must be 'linear' to be trained through, got {self.rule.mode!r}")
        if self.rule.gate:
            raise ValueError(
                f"gate must be 0 in training: nothing is learned through a closed one, got {self.rule.gate}"
            )
        if self.rule.strength == 0.0:
            raise ValueError("strength must not be 0: the adapter would change nothing")
        return self
