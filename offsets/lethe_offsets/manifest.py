"""``offset.json``: what a forget module is, what it was made for, and how its offset is applied."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from lethe_offsets.errors import InvalidInput
from lethe_offsets.pair import MAX_STRENGTH, Rule
from lethe_offsets.validation import invalid

MANIFEST_FILE = "offset.json"
FORMAT_VERSION = 1

Lane = Literal["plus", "minus"]
LANES: tuple[Lane, ...] = ("plus", "minus")

LABEL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Label = Annotated[str, Field(pattern=LABEL)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
ForgetSetDigest = Annotated[str, Field(pattern=r"^hmac-sha256:[0-9a-f]+:[0-9a-f]{64}$")]


def check_label(field: str, value: str) -> None:
    """Raises InvalidInput for a name or a version that a manifest would not take."""
    if not re.fullmatch(LABEL, value):
        accepted = "up to 64 letters, digits, dots, dashes and underscores, the first a letter or a digit"
        raise InvalidInput(field, value, accepted)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class SmallModel(_Strict):
    """A model of a lane: its Hub name or path, and its digest (see ``digests.small_model_digest``)."""

    id: str
    digest: Digest


class Manifest(_Strict):
    """The content of ``offset.json``; an unknown key or another format version is refused.

    small_model: that of both lanes. plus_model: the plus lane's, where it has weights of its own; small_model is the
    minus lane's then, and no adapter is needed. vocab_size: width of the small model's logits. large_model: family or
    id it was trained against, if any. strength_bounds: lowest and highest strength it may be served with;
    ``rule.strength`` lies within. lanes: those with an adapter.
    """

    format_version: Literal[1]
    name: Label
    version: Label = "1"
    created: AwareDatetime
    description: str
    forget_set_digest: ForgetSetDigest | None = None
    small_model: SmallModel
    plus_model: SmallModel | None = None
    tokenizer_digest: Digest
    vocab_size: int = Field(gt=0)
    large_model: str | None = None
    algorithm: str
    hyperparameters: dict[str, JsonValue] = {}
    rule: Rule
    strength_bounds: tuple[float, float]
    lanes: tuple[Lane, ...]
    licence: str

    @field_validator("created")
    @classmethod
    def _in_utc(cls, created: datetime) -> datetime:
        if created.utcoffset() != timedelta(0):
            raise ValueError("must be a time in UTC")
        return created

    @field_validator("hyperparameters")
    @classmethod
    def _finite(cls, hyperparameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
        json.dumps(hyperparameters, allow_nan=False)  # raises ValueError: JSON has no NaN
        return hyperparameters

    @field_validator("lanes")
    @classmethod
    def _each_lane_once(cls, lanes: tuple[Lane, ...], given: ValidationInfo) -> tuple[Lane, ...]:
        if not lanes and given.data.get("plus_model") is None:
            raise ValueError("one lane or both, unless there is a plus_model")
        if len(set(lanes)) != len(lanes):
            raise ValueError("each lane at most once")
        return lanes

    @model_validator(mode="after")
    def _strength_within_bounds(self) -> Self:
        low, high = self.strength_bounds
        if not -MAX_STRENGTH <= low <= high <= MAX_STRENGTH:
            limits = f"[-{MAX_STRENGTH:g}, {MAX_STRENGTH:g}]"
            raise ValueError(f"strength_bounds must be [low, high] within {limits}, got [{low:g}, {high:g}]")
        if not low <= self.rule.strength <= high:
            bounds = f"strength_bounds [{low:g}, {high:g}]"
            raise ValueError(f"rule.strength must be within {bounds}, got {self.rule.strength:g}")
        return self

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """The manifest in ``data``. Raises ModuleInvalid with the field, its value and what is accepted."""
        try:
            return cls.model_validate_json(data, strict=True)  # reaches into Rule too
        except ValidationError as err:
            raise invalid(err, MANIFEST_FILE, KEYS) from err

    @classmethod
    def build(cls, **fields: object) -> Self:
        """A manifest from keyword arguments. Raises ModuleInvalid like ``from_json``."""
        try:
            return cls.model_validate(fields)
        except ValidationError as err:
            raise invalid(err, MANIFEST_FILE, KEYS) from err

    def to_json(self) -> bytes:
        """UTF-8, indented, keys in the order of the fields."""
        return self.model_dump_json(indent=2).encode() + b"\n"

    @model_serializer(mode="wrap")
    def _as_before_plus_models(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the key where there is none: such a manifest's bytes, and so its module's digest, stay the same."""
        content: dict[str, Any] = dump(self)
        if self.plus_model is None:
            del content["plus_model"]
        return content


KEYS = {
    "": list(Manifest.model_fields),
    "small_model": list(SmallModel.model_fields),
    "plus_model": list(SmallModel.model_fields),
    "rule": [field.name for field in dataclasses.fields(Rule)],
}
