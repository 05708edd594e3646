"""What an evaluation has found, as it is written to ``summary.json`` and, with every item, to ``eval.json``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation.metrics import Settings
from lethe_offsets.validation import invalid
from lethe_offsets.writing import replacing

SUMMARY_FILE, ITEMS_FILE, REPORT_FILE = "summary.json", "eval.json", "report.html"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class About(_Strict):
    """The module that is judged, from its manifest; a server's is known by its name alone."""

    ref: str
    description: str | None = None
    created: str | None = None
    algorithm: str | None = None
    forget_set_digest: str | None = None
    small_model: str | None = None
    large_model: str | None = None


class Data(_Strict):
    """split: ``forget10`` and so on, None for a user's own sets. sizes: questions of each set."""

    split: str | None
    digest: str
    sizes: dict[str, int]


class Measured(_Strict):
    """One model. summary: numbers by metric. left_out: why a metric is not there. seconds: what each one took."""

    identity: str
    summary: dict[str, dict[str, float]] = {}
    left_out: dict[str, str] = {}
    seconds: dict[str, float] = {}
    items: dict[str, list[dict[str, JsonValue]]] = {}


class Outcome(_Strict):
    """models: by name; ``module`` is the judged one, ``target`` and ``retrained`` stand beside it.

    lethe: the version that measured. created: UTC, ISO 8601. reference: what truth ratios were compared with.
    """

    lethe: str
    created: str
    where: str
    about: About
    data: Data
    settings: Settings
    reference: str | None
    models: dict[str, Measured]

    def write(self, folder: Path) -> None:
        """``summary.json`` and ``eval.json``. Raises InvalidInput for a folder that can't be written."""
        brief = self.model_copy(
            update={"models": {name: one.model_copy(update={"items": {}}) for name, one in self.models.items()}}
        )
        for name, content in ((SUMMARY_FILE, brief), (ITEMS_FILE, self)):
            with replacing(folder / name) as draft:
                draft.write_text(content.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What ``write`` wrote, items included. Raises InvalidInput for anything else."""
        path = folder / ITEMS_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as err:
            raise InvalidInput("eval", str(folder), f"a folder that lethe eval has written ({err})") from err
        except ValidationError as err:
            raise invalid(err, str(path)) from err

    def scores_json(self) -> str:
        """A module's own ``eval.json``: numbers by ``metric.number``, and what they were measured on and when."""
        numbers = {
            name if name == key else f"{name}.{key}": value
            for name, summary in self.models["module"].summary.items()
            for key, value in summary.items()
            if math.isfinite(value)  # JSON for others than Python has nothing else
        }
        facts = {"data": self.data.split or self.data.digest, "measured": self.created, "lethe": self.lethe}
        return json.dumps({**numbers, **facts}, indent=1) + "\n"
