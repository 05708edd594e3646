"""What training from a recording costs against the whole logits, on the demo's world and on TOFU.

    PYTHONPATH=tests python tests/benchmarks/recordings.py --cache DIR [--tofu DIR]

DIR of TOFU holds forget01.json and retain99.json. Models, adapters and results stay below the cache; an interrupted
run goes on. A quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tofu_models
import torch
from peft import PeftModel
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers.utils import logging

from lethe_offsets.demo.build import TRAINING, build_world
from lethe_offsets.demo.evaluate import answer_all, exact_matches, read_questions
from lethe_offsets.demo.steps import Steps
from lethe_offsets.recording.file import Recording, answer_places
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, read_examples
from lethe_offsets.training.logits import model_logits, pad, passes
from lethe_offsets.training.objectives import KL, NPO
from lethe_offsets.training.progress import Report, progress_bars
from lethe_offsets.training.reference import ReferenceEnsemble, load_model, load_tokenizer, special_ids
from lethe_offsets.training.sweep import rate_folder, train_rates
from lethe_offsets.training.threads import one_thread
from top_k import record_model

RETAINED = 160  # records of TOFU's retain set
TOFU_TRAINING = TrainingConfig(
    objective=NPO(), retain=KL(), learning_rate=2e-3, epochs=10, batch_size=8, retain_batch_size=16
)
TOFU_FILES = {"forget": "forget01.json", "retain": "retain99.json"}


@dataclass(frozen=True)
class Arm:
    """What a module is trained from. top_k: None for the whole logits."""

    label: str
    top_k: int | None = None
    uniform: bool = False  # the tail in equal parts, not as the small model has it
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.top_k or 'full'}{'-uniform' * self.uniform}-{self.seed}"


FULL = Arm("full logits")
SMALL = "the rest as the small model's"


class Uniform(Recording):
    """The tail in equal parts."""

    def logits(self, examples: Sequence[Example], small: Tensor) -> Tensor:
        return Recording.logits(self, examples, torch.zeros_like(small))


@dataclass(frozen=True)
class Task:
    """What is trained, and how; ``extra`` adds columns to a result."""

    name: str
    large: Path
    small: Path
    forget: list[Example]
    retain: list[Example]
    config: TrainingConfig
    top_ks: tuple[int, ...]
    extra: Callable[[ReferenceEnsemble], dict[str, str]]

    def arms(self) -> list[Arm]:
        first, *others = self.top_ks
        tops = [Arm(f"top {first}, {SMALL}", first), Arm(f"top {first}, the rest in equal parts", first, uniform=True)]
        tops += [Arm(f"top {top_k}, {SMALL}", top_k) for top_k in others]
        return [FULL, Arm("full logits, another seed", seed=1), *tops]


def demo_task(cache: Path, report: Report) -> Task:
    world = build_world(cache / "demo", report=report)
    words = load_tokenizer(world.small)
    forget, retain = (
        read_examples(cache / "demo" / "data" / f"{role}.jsonl", words, role, 256) for role in ("forget", "retain")
    )
    questions = {"": read_questions(world.facts), ", other words": read_questions(world.paraphrases)}

    def exact(ensemble: ReferenceEnsemble) -> dict[str, str]:
        found = {}
        for manner, asked in questions.items():
            scores = exact_matches(asked, answer_all(ensemble, words, asked).__getitem__)
            found |= {f"{role} exact{manner}": f"{scores[role].exact}/{scores[role].total}" for role in scores}
        return found

    return Task("demo", world.large, world.small, forget, retain, TRAINING, (20, len(words) // 2, 1000), exact)


def tofu_task(cache: Path, tofu: Path, report: Report) -> Task:
    lines = {role: (tofu / file).read_text(encoding="utf-8").splitlines() for role, file in TOFU_FILES.items()}
    texts = [text for line in lines["retain"] for text in json.loads(line).values()]
    lines["retain"] = lines["retain"][:: len(lines["retain"]) // RETAINED][:RETAINED]
    folder = cache / "tofu"
    steps, recipe = Steps(folder), [lines, tofu_models.SHAPES, tofu_models.VOCABULARY]
    folder.mkdir(parents=True, exist_ok=True)
    words = load_tokenizer(steps.run("tokenizer", recipe, lambda out: tofu_models.train_tokenizer(texts, out)))
    for role in lines:
        (folder / f"{role}.jsonl").write_text("\n".join(lines[role]), encoding="utf-8")
    forget, retain = (read_examples(folder / f"{role}.jsonl", words, role, 512) for role in ("forget", "retain"))

    def model(name: str) -> Path:
        return steps.run(name, recipe, lambda out: tofu_models.pretrain(name, [*forget, *retain], words, out, report))

    return Task("TOFU", model("large"), model("small"), forget, retain, TOFU_TRAINING, (20, 1000), lambda _: {})


class Bench:
    """One task's models, and what each arm makes of them."""

    def __init__(self, task: Task, folder: Path, report: Report) -> None:
        self.task, self.folder, self.report = task, folder, report
        self.words, self.large = load_tokenizer(task.small), load_model(task.large)
        self.examples = [*task.forget, *task.retain]
        self.special_ids = special_ids(self.large, self.words)
        folder.mkdir(parents=True, exist_ok=True)

    def train(self, arm: Arm) -> ReferenceEnsemble:
        """The large model itself, with an adapter trained from what the arm knows of it."""
        task, folder = self.task, self.folder / arm.name
        config = task.config.model_copy(update={"seed": arm.seed})
        source = model_logits(self.large) if arm.top_k is None else self.recording(arm, arm.top_k)
        data = task.forget, task.retain, self.special_ids
        small = load_model(task.small)
        train_rates(config, [config.learning_rate], source, small, *data, folder, [arm.name], self.report)
        adapter = rate_folder(folder, config.learning_rate) / "plus"
        plus = PeftModel.from_pretrained(load_model(task.small), str(adapter)).train(False)
        return ReferenceEnsemble(self.large, plus, small, config.rule, self.special_ids)

    def recording(self, arm: Arm, top_k: int) -> Recording:
        path = self.folder / f"top-{top_k}.safetensors"
        if not path.exists():
            record_model(self.large, self.examples, self.words, top_k, path)
        found = Recording.open(path)
        kind = Uniform if arm.uniform else Recording
        return kind(found.path, found.header, found.rows, found.places, found.top, found.width)

    def result(self, arm: Arm) -> dict[str, str]:
        """A row of the table, kept for the next run."""
        kept = self.folder / f"{arm.name}.json"
        if not kept.exists():
            ensemble, full = self.train(arm), self.train(FULL)
            row = {"trained from": arm.label} | self._cost(arm)
            for role, examples in (("forget", self.task.forget), ("retain", self.task.retain)):
                own = [example for example in examples if example.kind == "own"]
                before = probability(ReferenceEnsemble.plain(self.large), own)
                row[f"{role} probability"] = f"{before:.3f} to {probability(ensemble, own):.3f}"
                row[f"{role} KL"] = f"{divergence(full, ensemble, own):.4f}"
            kept.write_text(json.dumps(row | self.task.extra(ensemble)), encoding="utf-8")
        return dict(json.loads(kept.read_text(encoding="utf-8")))

    def _cost(self, arm: Arm) -> dict[str, str]:
        """The large model's mass that isn't recorded, and what is kept of it for each answer token."""
        if arm.top_k is None:
            return {"mass not recorded": "0", "bytes a token": str(4 * self.large.config.vocab_size)}
        outside = 1.0 - self.recording(arm, arm.top_k).top.logprobs.double().exp().sum(dim=-1).mean()
        return {"mass not recorded": f"{float(outside):.1e}", "bytes a token": str(8 * arm.top_k)}


@torch.inference_mode()
def answers(ensemble: ReferenceEnsemble, examples: Sequence[Example]) -> Iterator[tuple[list[Example], Tensor]]:
    """Examples and their log-probabilities at the predicted tokens, [n, vocab], a batch at a time."""
    for batch in passes(examples):
        chosen = [examples[index] for index in batch]
        ids, mask, predicted = pad(chosen)
        yield chosen, ensemble.logits(ids, mask)[predicted].log_softmax(dim=-1)


def probability(ensemble: ReferenceEnsemble, examples: Sequence[Example]) -> float:
    """TOFU's: the mean of p(answer) ** (1 / tokens)."""
    found = []
    for chosen, rows in answers(ensemble, examples):
        tokens = torch.tensor([example.ids[place] for example in chosen for place in answer_places(example)])
        own = rows.gather(-1, tokens[:, None])[:, 0].split([len(answer_places(example)) for example in chosen])
        found += [float(part.mean().exp()) for part in own]
    return sum(found) / len(found)


def divergence(full: ReferenceEnsemble, other: ReferenceEnsemble, examples: Sequence[Example]) -> float:
    """Mean over answer tokens of KL(full || other), in nats."""
    total, count = 0.0, 0
    for (_, one), (_, two) in zip(answers(full, examples), answers(other, examples), strict=True):
        total += float((one.exp() * (one - two)).sum())
        count += len(one)
    return total / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--tofu", type=Path)
    given = parser.parse_args()
    logging.disable_progress_bar()
    console = Console(width=200)
    with one_thread(), progress_bars() as report:
        tables = [_table(demo_task(given.cache, report), given.cache, report)]
        if given.tofu:
            tables.append(_table(tofu_task(given.cache, given.tofu, report), given.cache, report))
    for table in tables:
        console.print(table)


def _table(task: Task, cache: Path, report: Report) -> Table:
    bench = Bench(task, cache / "recordings" / task.name, report)
    results = [bench.result(arm) for arm in task.arms()]
    title = f"{task.name}: {len(task.forget)} + {len(task.retain)} examples, {bench.large.config.vocab_size} tokens"
    table = Table(*results[0], title=title, title_justify="left", box=MARKDOWN)
    for result in results:
        table.add_row(*result.values())
    return table


if __name__ == "__main__":
    main()
