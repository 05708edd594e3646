"""What every method starts from: tokenizer, sets and models of one split, each in its own directory, built once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerFast

from lethe_offsets.comparison.clock import clock_file, seconds, timed
from lethe_offsets.comparison.models import train_model
from lethe_offsets.comparison.sizes import Size
from lethe_offsets.digests import file_digest
from lethe_offsets.errors import InvalidInput
from lethe_offsets.pretraining.words import train_tokenizer
from lethe_offsets.steps import Steps, digest
from lethe_offsets.training.data import read_examples
from lethe_offsets.training.progress import Report

RECIPE = 1  # to be raised when the same settings build something else than before
RETAINED = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
ModelName = Literal["large", "retrained", "small", "clean"]
MODELS: dict[ModelName, tuple[Literal["large", "small"], Literal["full", "retain"]]] = {  # the longest first
    "large": ("large", "full"),
    "retrained": ("large", "retain"),
    "small": ("small", "full"),
    "clean": ("small", "retain"),
}
"""Shape and data. ``clean``: a small model that never saw what is to be forgotten."""


@dataclass(frozen=True, slots=True)
class Builds:
    """tofu: the data's folder. out: where everything is kept, what all splits share and a folder for each split.

    Raises InvalidInput for a split or a folder that isn't TOFU's.
    """

    tofu: Path
    out: Path
    size: Size
    split: str
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.split not in RETAINED:
            raise InvalidInput("split", self.split, ", ".join(RETAINED))
        for part in ("full", "forget", "retain"):
            if not self.file(part).is_file():
                raise InvalidInput("tofu", str(self.tofu), f"TOFU's folder, which holds {self.file(part).name}")

    @property
    def place(self) -> Path:
        """The split's folder."""
        return self.out / self.split

    def file(self, part: str) -> Path:
        """TOFU's file of the ``full``, ``forget`` or ``retain`` set."""
        names = {"full": "full", "forget": self.split, "retain": RETAINED[self.split]}
        return self.tofu / f"{names[part]}.json"

    def tokenizer(self) -> Path:
        def build(out: Path) -> None:
            texts = [str(text) for line in _lines(self.file("full")) for text in json.loads(line).values()]
            train_tokenizer(texts, self.size.vocabulary).save_pretrained(out)

        return Steps(self.out).run("tokenizer", self._words(), build)

    def sets(self) -> Path:
        """The folder of forget.jsonl and retain.jsonl, the latter with ``retain_records`` records."""

        def build(out: Path) -> None:
            out.mkdir(parents=True)
            for role, limit in (("forget", None), ("retain", self.size.retain_records)):
                kept = evenly(_lines(self.file(role)), limit)
                (out / f"{role}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")

        return Steps(self.place).run("sets", self._sets(), build)

    def model(self, name: ModelName, report: Report) -> Path:
        """Train the model of this name, unless it is there; its directory."""
        shape, data = MODELS[name]
        settings = self.size.large if shape == "large" else self.size.small

        def build(out: Path) -> None:
            words = PreTrainedTokenizerFast.from_pretrained(self.tokenizer())
            examples = read_examples(self.file(data), words, "retain", settings.positions)
            with timed(self._clock(name), self.device):
                train_model(settings, examples, words, out, self.device, name, report)

        return Steps(self.path(name).parent).run(name, self.recipe(name), build)

    def path(self, name: ModelName) -> Path:
        """Where the model lies or will lie."""
        return (self.out if MODELS[name][1] == "full" else self.place) / name

    def recipe(self, name: ModelName) -> str:
        """Digest of what the model is built from."""
        shape, data = MODELS[name]
        settings = self.size.large if shape == "large" else self.size.small
        return digest([self._words(), settings.model_dump(), file_digest(self.file(data))])

    def sets_recipe(self) -> str:
        return digest(self._sets())

    def seconds(self, name: ModelName) -> float:
        """How long its training took."""
        return seconds(self._clock(name))

    def _clock(self, name: ModelName) -> Path:
        return clock_file(self.out, name, self.recipe(name))

    def _words(self) -> list[object]:
        return [RECIPE, file_digest(self.file("full")), self.size.vocabulary]

    def _sets(self) -> list[object]:
        return [RECIPE, *(file_digest(self.file(role)) for role in ("forget", "retain")), self.size.retain_records]


def evenly(lines: Sequence[str], count: int | None) -> list[str]:
    """``count`` of the lines, evenly spaced; all of them for None or where there are fewer."""
    if count is None or count >= len(lines):
        return list(lines)
    return [lines[place * len(lines) // count] for place in range(count)]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
