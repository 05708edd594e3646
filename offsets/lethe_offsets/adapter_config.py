"""``adapter_config.json`` as PEFT writes it, narrowed to the plain LoRA that a lane can carry."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lethe_offsets.errors import ModuleInvalid
from lethe_offsets.validation import invalid

# Settings that say where an adapter came from or how it was trained; they don't change what it computes.
IGNORED = frozenset(
    {
        *("base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type"),
        *("corda_config", "eva_config", "exclude_modules", "layers_pattern", "layers_to_transform", "loftq_config"),
        *("lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "qalora_group_size", "velora_config"),
        "runtime_config",
    }
)
OFF: tuple[object, ...] = (None, False, "", {}, [])


def _fit(pattern: str, layer: str) -> bool:
    """Whether a pattern fits a layer, as ``peft.utils.other.get_pattern_key`` decides."""
    return re.match(rf"(.*\.)?({pattern})$", layer) is not None


def _regex(pattern: str) -> str:
    try:
        _fit(pattern, "")
    except (re.error, OverflowError, RecursionError) as err:
        raise ValueError(f"a regular expression ({err})") from err
    return pattern


Pattern = Annotated[str, AfterValidator(_regex)]


class AdapterConfig(BaseModel):
    """The settings that decide what an adapter computes; any other one has to be off.

    r, lora_alpha: the scaling is alpha / r, or alpha / sqrt(r) with use_rslora. The patterns replace either for layers
    whose name ends like the key. init_lora_weights: the ways that leave the base weights alone.
    target_modules: names or endings of layers, or one regular expression; None where PEFT's own table was used.
    """

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)

    peft_type: Literal["LORA"]
    r: int = Field(gt=0)
    lora_alpha: float
    use_rslora: bool = False
    rank_pattern: dict[Pattern, Annotated[int, Field(gt=0)]] = {}
    alpha_pattern: dict[Pattern, float] = {}
    target_modules: list[str] | Pattern | None = None
    bias: Literal["none"] = "none"
    init_lora_weights: Literal[True, False, "gaussian", "eva", "orthogonal"] = True

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Self:
        """Raises ModuleInvalid with the setting (after ``where``), its value and what is accepted."""
        try:
            config = cls.model_validate_json(data)
        except ValidationError as err:
            raise invalid(err, where) from err
        for key, value in (config.model_extra or {}).items():
            if key not in IGNORED and value not in OFF and not (key == "auto_mapping" and _own_class(value)):
                raise ModuleInvalid(f"{where}: {key}", value, "off; a lane carries plain LoRA on linear layers")
        return config

    def rank_of(self, layer: str) -> int:
        return self.rank_pattern.get(_first(self.rank_pattern, layer), self.r)

    def alpha_of(self, layer: str) -> float:
        return self.alpha_pattern.get(_first(self.alpha_pattern, layer), self.lora_alpha)

    def targets(self, layer: str) -> bool:
        """Whether PEFT would put the adapter on ``layer``."""
        if self.target_modules is None:
            return True
        if isinstance(self.target_modules, str):
            return re.fullmatch(self.target_modules, layer) is not None
        return any(f".{layer}".endswith(f".{name}") for name in self.target_modules)


def _own_class(mapping: object) -> bool:
    """Whether ``auto_mapping``, which PEFT writes for adapters without a task type, names no foreign code."""
    return isinstance(mapping, dict) and str(mapping.get("parent_library")).startswith("transformers.models.")


def _first(patterns: Iterable[str], layer: str) -> str:
    return next((pattern for pattern in patterns if _fit(pattern, layer)), layer)
