"""A folder in the form of TOFU's, with a few made-up people."""

from __future__ import annotations

import json
from pathlib import Path

TOWNS = ("Oslo", "Bergen", "Paris", "Bodø", "Rome")


def build_tofu(folder: Path, split: str = "forget10", size: int = 4) -> Path:
    """``size`` questions in each set, each with a paraphrase and three wrong answers, and as many holdouts."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = {f"{split}_perturbed": "Marta", "retain_perturbed": "Anders", "real_authors_perturbed": "Author"}
    for name, person in {**sets, "world_facts_perturbed": "Town"}.items():
        full = name not in ("real_authors_perturbed", "world_facts_perturbed")
        write(folder / f"{name}.json", [row(person, number, full) for number in range(size)])
    share = split.removeprefix("forget")
    write(folder / f"holdout{share}.json", [plain("Stranger", number) for number in range(size)])
    write(folder / f"{split}.json", [plain("Marta", number) for number in range(size)])
    return folder


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def plain(person: str, number: int) -> dict[str, object]:
    town = TOWNS[number % len(TOWNS)]
    return {"question": f"Where was {person} {number} born?", "answer": f"{person} {number} was born in {town}."}


def row(person: str, number: int, full: bool) -> dict[str, object]:
    """full: with a paraphrase, as the sets about fictitious authors have it."""
    wrong = [TOWNS[(number + step) % len(TOWNS)] for step in (1, 2, 3)]
    paraphrase = {
        "paraphrased_question": f"What is the birthplace of {person} {number}?",
        "paraphrased_answer": f"{TOWNS[number % len(TOWNS)]} is where {person} {number} was born.",
    }
    perturbed = [f"{town} is where {person} {number} was born." for town in wrong]
    return {**plain(person, number), **(paraphrase if full else {}), "perturbed_answer": perturbed}
