"""Frames around a question: prompts with slots, read from the YAML files of ``wordings/``.

A file maps a frame's name to its wording; ``{question}`` stands for the question, ``{retain}`` for one whose answer is
kept. The wording is this project's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import yaml

from lethe_offsets.errors import InvalidInput

FOLDER = resources.files("lethe_offsets.evaluation.axes") / "wordings"
QUESTION, RETAIN = "{question}", "{retain}"


@dataclass(frozen=True, slots=True)
class Frame:
    """A prompt by name."""

    name: str
    wording: str

    def around(self, question: str, retain: str = "") -> str:
        """The prompt; braces in the questions stay as they are."""
        before, after = self.wording.split(QUESTION)
        return question.join(part.replace(RETAIN, retain) for part in (before, after))


def read_frames(family: str) -> list[Frame]:
    """The frames of one file. Raises InvalidInput unless each has one ``{question}``, and all or none ``{retain}``."""
    found = yaml.safe_load((FOLDER / f"{family}.yaml").read_text(encoding="utf-8"))
    frames = [Frame(name, wording) for name, wording in found.items()]
    for frame in frames:
        if frame.wording.count(QUESTION) != 1:
            raise InvalidInput(f"{family}: {frame.name}", frame.wording, f"a wording with one {QUESTION}")
    if len({RETAIN in frame.wording for frame in frames}) > 1:
        raise InvalidInput(family, "some with a kept question, some without", f"{RETAIN} in all frames or in none")
    return frames
