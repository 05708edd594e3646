"""A retain model's truth ratios in a small file, so that forget quality needs that model only once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation.sets import Sets
from lethe_offsets.validation import invalid
from lethe_offsets.writing import replacing


class Reference(BaseModel):
    """log_truth_ratios: of the forget set's items in their order. data: that set's digest. model: its identity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: Literal[1] = 1
    split: str
    data: str
    model: str
    log_truth_ratios: tuple[float, ...] = Field(min_length=1)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises InvalidInput for a file that is no reference."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as err:
            raise InvalidInput("reference", str(path), f"a file of --write-reference ({err})") from err
        except ValidationError as err:
            raise invalid(err, f"reference {path.name}") from err

    def write(self, path: Path) -> None:
        """Raises InvalidInput for a path that can't be written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, "write_reference") as draft:
            draft.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def check(self, sets: Sets) -> None:
        """Raises InvalidInput unless it was made on the forget set of ``sets``."""
        if self.split != sets.split:
            raise InvalidInput("reference", self.split, f"one of split {sets.split}")
        if self.data != sets.forget_digest:
            accepted = f"{sets.forget_digest}, the digest of the {len(sets.forget)} forget items"
            raise InvalidInput("reference: data", self.data, accepted)
