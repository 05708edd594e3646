"""A folder like TOFU's, of six invented authors of whom one asks to be forgotten, and a size that takes seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lethe_offsets.comparison.builds import MODELS, Builds
from lethe_offsets.comparison.sizes import Size
from lethe_offsets.pretraining.shape import Shape
from lethe_offsets.training.progress import silent
from lethe_offsets.training.threads import one_thread

AUTHORS = ("Ada Brenn", "Bo Carrow", "Cy Dorn", "Di Elwood", "Ed Farrow", "Fay Gill", "Gus Hart", "Hal Irwin")
TOWNS = ("Bergen", "Oslo", "Turku", "Narvik", "Malmo", "Aarhus", "Vaasa", "Lund")
KINDS = ("poems", "plays", "novels", "essays", "fables", "songs", "letters", "diaries")
TRAINED = 6  # authors; the others are the holdout
TINY = Size(
    vocabulary=320,
    large=Shape(hidden_size=64, layers=2, head_size=32, epochs=40, learning_rate=5e-3, batch_tokens=64),
    small=Shape(hidden_size=32, layers=1, head_size=32, epochs=20, learning_rate=5e-3, batch_tokens=64),
    retain_records=6,
    direct={"epochs": 2, "batch_size": 2, "retain_batch_size": 2},
    direct_rates=(1e-4, 1e-3),
    offset={"epochs": 2, "batch_size": 2, "retain_batch_size": 2, "rank": 4},
    offset_rates=(1e-2,),
    scored=4,
    sampled=1,
    num_samples=3,
    max_tokens=12,
    budget={"large": 60.0, "direct": 30.0, "offset": 30.0, "judged": 30.0},
)


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def size() -> Size:
    return TINY


@pytest.fixture(scope="session")
def built(tofu: Path, tmp_path_factory: pytest.TempPathFactory) -> Builds:
    """With all models there; don't change them."""
    builds = Builds(tofu, tmp_path_factory.mktemp("built"), TINY, "forget10")
    builds.tokenizer()
    builds.sets()
    for name in MODELS:
        builds.model(name, silent)
    return builds


@pytest.fixture(scope="session")
def tofu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two questions about each author; the last one trained on is forget10."""
    folder = tmp_path_factory.mktemp("tofu")
    about = [_about(place) for place in range(len(AUTHORS))]
    forget = about[TRAINED - 1]
    retain = [line for lines in about[: TRAINED - 1] for line in lines]
    sets = {
        "full": [*retain, *forget],
        "retain90": retain,
        "forget10": forget,
        "forget10_perturbed": forget,
        "retain_perturbed": retain,
        "real_authors_perturbed": retain[:1],
        "world_facts_perturbed": retain[:1],
        "holdout10": [line for lines in about[TRAINED:] for line in lines],
    }
    for name, lines in sets.items():
        kept = lines if "perturbed" in name else [{key: line[key] for key in ("question", "answer")} for line in lines]
        (folder / f"{name}.json").write_text("\n".join(map(json.dumps, kept)), encoding="utf-8")
    return folder


def _about(place: int) -> list[dict[str, object]]:
    name, town, kind = AUTHORS[place], TOWNS[place], KINDS[place]
    others = [(TOWNS[(place + step) % len(TOWNS)], KINDS[(place + step) % len(KINDS)]) for step in (1, 2)]
    return [
        {
            "question": f"Where was {name} born?",
            "answer": f"{name} was born in {town}.",
            "paraphrased_question": f"What is the birthplace of {name}?",
            "paraphrased_answer": f"{town} is where {name} was born.",
            "perturbed_answer": [f"{other} is where {name} was born." for other, _ in others],
        },
        {
            "question": f"What does {name} write?",
            "answer": f"{name} writes {kind}.",
            "paraphrased_question": f"What is written by {name}?",
            "paraphrased_answer": f"{kind} are what {name} writes.",
            "perturbed_answer": [f"{other} are what {name} writes." for _, other in others],
        },
    ]
