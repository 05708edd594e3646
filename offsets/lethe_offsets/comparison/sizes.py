"""How large the comparison's models are, and how long everything is trained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lethe_offsets.pretraining.shape import Shape

SizeName = Literal["mini", "small"]


class Size(BaseModel):
    """Everything that depends on the models' size. Rates: all are tried; see ``trials.choose``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary: int = Field(default=4096, description="Entries of the byte-level BPE.")
    large: Shape
    small: Shape
    retain_records: int = Field(description="Records of the retain set that methods train with, evenly drawn.")
    direct: dict[str, Any] = Field(description="Knobs for fine-tuning the large model itself.")
    direct_rates: tuple[float, ...]
    offset: dict[str, Any] = Field(description="Knobs for forget modules.")
    offset_rates: tuple[float, ...]
    scored: int = Field(default=100, description="Records of each set that rates and rules are chosen by.")
    sampled: int = Field(default=40, description="Forget questions that are asked many times, for Leak@K.")
    num_samples: int = Field(default=100, description="Answers drawn to a question, for Leak@K.")
    max_tokens: int = Field(default=200, description="Of an answer; TOFU's.")
    budget: dict[str, float] = Field(
        default_factory=dict,
        description="Seconds on one core of each model, a direct or offset training, and a judgement, start included.",
    )


COMMON = {"epochs": 5, "batch_size": 16, "retain_batch_size": 16, "cache_dtype": "float16", "score_every": 10}

SIZES: dict[SizeName, Size] = {
    "mini": Size(
        large=Shape(hidden_size=256, layers=4, epochs=8, learning_rate=2.5e-3),
        small=Shape(hidden_size=128, layers=2, epochs=10, learning_rate=4e-3),
        retain_records=1200,
        direct=COMMON,
        direct_rates=(1e-4, 3e-4, 1e-3),
        offset=COMMON | {"rank": 32, "lora_alpha": 64},
        offset_rates=(1e-3, 3e-3, 1e-2),
        sampled=16,
        max_tokens=128,
        budget={
            "large": 500.0,
            "retrained": 450.0,
            "small": 215.0,
            "clean": 200.0,
            "direct": 120.0,
            "offset": 80.0,
            "judged": 118.0,
        },
    ),
    "small": Size(
        vocabulary=8192,
        large=Shape(hidden_size=768, layers=12, epochs=12, learning_rate=6e-4, batch_tokens=4096),
        small=Shape(hidden_size=512, layers=6, epochs=12, learning_rate=1e-3, batch_tokens=4096),
        retain_records=3600,
        direct=COMMON,
        direct_rates=(1e-5, 3e-5, 1e-4),
        offset=COMMON | {"rank": 32, "lora_alpha": 64},
        offset_rates=(1e-4, 3e-4, 1e-3),
    ),
}
