"""TOFU's folder (arXiv 2401.06121), as it is published: JSON lines, one file for each set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation.sets import Item, Sets
from lethe_offsets.training.records import unsound

SPLITS = ("forget01", "forget05", "forget10")
FILES = {  # set: file, of which the first three depend on the split
    "forget": "{split}_perturbed.json",
    "retain": "retain_perturbed.json",
    "real_authors": "real_authors_perturbed.json",
    "world_facts": "world_facts_perturbed.json",
}
HOLDOUT = "holdout{share}.json"


class Line(BaseModel):
    """A line of a set; other keys, such as the options of real authors, say nothing more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    paraphrased_question: str | None = None
    paraphrased_answer: str | None = None
    perturbed_answer: tuple[str, ...] = ()

    def item(self) -> Item:
        return Item(
            self.question,
            self.answer,
            paraphrased_question=self.paraphrased_question,
            paraphrased_answer=self.paraphrased_answer,
            perturbed_answers=self.perturbed_answer,
        )


def read_tofu(folder: Path, split: str) -> Sets:
    """The four sets of a split with their perturbed answers, and the holdout authors where they are there.

    Raises InvalidInput for another split, a missing file, and lines that are not TOFU's.
    """
    if split not in SPLITS:
        raise InvalidInput("split", split, ", ".join(SPLITS))
    names = {name: file.format(split=split) for name, file in FILES.items()}
    if missing := [name for name in names.values() if not (folder / name).is_file()]:
        raise InvalidInput("tofu", str(folder), f"a folder of TOFU's JSON files; missing: {', '.join(missing)}")
    found = {name: tuple(_read(folder / file, perturbed=True)) for name, file in names.items()}
    holdout = folder / HOLDOUT.format(share=split.removeprefix("forget"))
    if holdout.is_file():
        found["holdout"] = tuple(_read(holdout, perturbed=False))
    return Sets(**found, split=split)


def _read(path: Path, perturbed: bool) -> Iterator[Item]:
    """Raises InvalidInput for a file without lines, and a line without what the set must have."""
    for number, text in _lines(path):
        try:
            line = Line.model_validate_json(text)
        except ValidationError as err:
            raise unsound(err, f"{path.name} line {number}", text.strip()) from err
        if perturbed and not line.perturbed_answer:
            raise InvalidInput(f"{path.name} line {number}: perturbed_answer", None, "wrong answers, as TOFU has them")
        yield line.item()


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines that aren't blank, with their numbers; a file that is one JSON list is read as lines."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidInput("tofu", str(path), f"a readable file of UTF-8 text ({err})") from err
    if text.lstrip().startswith("["):
        try:
            text = "\n".join(json.dumps(row) for row in json.loads(text))
        except ValueError as err:
            raise InvalidInput("tofu", str(path), f"JSON lines, or one JSON list ({err})") from err
    found = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not found:
        raise InvalidInput("tofu", str(path), "at least one line")
    return found
