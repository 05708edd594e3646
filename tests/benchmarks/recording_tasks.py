"""What is trained from recordings: the demo's world, and a part of TOFU."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tofu_models

from lethe_offsets.demo.build import TRAINING, build_world
from lethe_offsets.demo.evaluate import answer_all, exact_matches, read_questions
from lethe_offsets.steps import Steps
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, read_examples
from lethe_offsets.training.objectives import KL, NPO
from lethe_offsets.training.progress import Report
from lethe_offsets.training.reference import ReferenceEnsemble, load_tokenizer

RETAINED = 160  # records of TOFU's retain set
TOFU_FILES = {"forget": "forget01.json", "retain": "retain99.json"}
TOFU_TRAINING = TrainingConfig(
    objective=NPO(), retain=KL(), learning_rate=2e-3, epochs=10, batch_size=8, retain_batch_size=16
)


@dataclass(frozen=True)
class Task:
    """What is trained, how, and from how many tokens a position.

    sets: the files of forget and retain. exact: counts right answers to questions that are asked.
    """

    name: str
    large: Path
    small: Path
    sets: tuple[Path, ...]
    forget: list[Example]
    retain: list[Example]
    config: TrainingConfig
    top_ks: tuple[int, ...]
    seeds: tuple[int, ...]
    exact: Callable[[ReferenceEnsemble], dict[str, float]]


def demo_task(cache: Path, report: Report) -> Task:
    world = build_world(cache / "demo", report=report)
    words = load_tokenizer(world.small)
    sets = tuple(cache / "demo" / "data" / f"{role}.jsonl" for role in ("forget", "retain"))
    forget, retain = (read_examples(file, words, file.stem, TRAINING.max_length) for file in sets)
    asked = [*read_questions(world.facts), *read_questions(world.paraphrases)]

    def exact(ensemble: ReferenceEnsemble) -> dict[str, float]:
        scores = exact_matches(asked, answer_all(ensemble, words, asked).__getitem__)
        return {f"{role} answered exactly": scores[role].share for role in scores}

    top_ks = (20, len(words) // 2, 1000)
    return Task("demo", world.large, world.small, sets, forget, retain, TRAINING, top_ks, (0, 1), exact)


def tofu_task(cache: Path, tofu: Path, report: Report) -> Task:
    lines = {role: (tofu / file).read_text(encoding="utf-8").splitlines() for role, file in TOFU_FILES.items()}
    texts = [text for line in lines["retain"] for text in json.loads(line).values()]
    lines["retain"] = lines["retain"][:: len(lines["retain"]) // RETAINED][:RETAINED]
    folder = cache / "tofu"
    steps, recipe = Steps(folder), [lines, tofu_models.SHAPES, tofu_models.VOCABULARY]
    folder.mkdir(parents=True, exist_ok=True)
    words = load_tokenizer(steps.run("tokenizer", recipe, lambda out: tofu_models.train_tokenizer(texts, out)))
    sets = tuple(folder / f"{role}.jsonl" for role in lines)
    for file in sets:
        file.write_text("\n".join(lines[file.stem]), encoding="utf-8")
    forget, retain = (read_examples(file, words, file.stem, TOFU_TRAINING.max_length) for file in sets)

    def model(name: str) -> Path:
        return steps.run(name, recipe, lambda out: tofu_models.pretrain(name, [*forget, *retain], words, out, report))

    models = model("large"), model("small")
    return Task("TOFU", *models, sets, forget, retain, TOFU_TRAINING, (20, 1000), (0, 1, 2), lambda _: {})
