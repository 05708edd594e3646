"""Ten deletion requests in a row: what is forgotten and what is kept after each, for every way of answering them.

    python tests/benchmarks/sequences.py --work DIR --out tests/benchmarks/results/sequences.md

Ten people of the demo's world ask to be forgotten, one after another. Each way has one module after each request:

- merged: a module is trained for each request alone, and all so far are merged, by several methods;
- retrained: one module is trained from nothing on all requests so far;
- trained further: the last module is trained on with the new request alone.

What was asked to be forgotten earlier is nowhere in the data of a later run, but for retraining, which has to keep it.
An interrupted run goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lethe_offsets.demo.build import TRAINING, DemoWorld, build_world
from lethe_offsets.demo.evaluate import Question, answer_all
from lethe_offsets.demo.sets import FORGET_FILE, RETAIN_FILE, write_sets
from lethe_offsets.demo.world import Fact, WorldConfig, make_facts
from lethe_offsets.merging.inputs import collect_inputs, inputs_file
from lethe_offsets.merging.merge import merge_modules
from lethe_offsets.merging.settings import MergeSettings, Method
from lethe_offsets.module import Module
from lethe_offsets.steps import Steps
from lethe_offsets.training.recipe import train_module
from lethe_offsets.training.reference import ReferenceEnsemble, load_model, load_tokenizer
from lethe_offsets.training.threads import one_thread

WORLD = WorldConfig(forgotten=10)
CONFIG = TRAINING.model_copy(update={"retain_batch_size": 24})
RANK = 64  # of merged modules but by cat and linear; a server's largest unless told otherwise
METHODS: tuple[Method, ...] = ("cat", "svd", "linear", "ties_svd", "dare_ties_svd", "regression")
WEIGHTED = {"root": -0.5, "mean": -1.0}  # svd with weights of n to this power
TITLES = dict(zip(METHODS, METHODS, strict=True)) | {"root": "svd, weights 1/√n", "mean": "svd, weights 1/n"}
SCORE_FILE = "score.json"

INTRODUCTION = f"""\
# Ten deletion requests in a row

Ten of the 24 people of the demo's world ask to be forgotten, one after another. Cells: the share of questions that are
answered right, after so many requests, about those who have asked / about all others; each fact is asked for in the
usual words and in words that no module was trained on. Request 0 is the large model without a module.

The columns before `retrained`: one module for each request, trained by itself, then all so far merged; a method that
cuts to a rank cuts to {RANK}. `retrained`: one module, trained from nothing on all requests so far. `trained further`:
one module, trained on with each request by itself. Every training takes {CONFIG.epochs} passes over its forget set, at
rank {CONFIG.rank} and learning rate {CONFIG.learning_rate}.

    OMP_NUM_THREADS=1 python tests/benchmarks/sequences.py --work WORK --out tests/benchmarks/results/sequences.md

"""


@dataclass(frozen=True)
class Bench:
    """The world, who asks to be forgotten in which order, and where steps are kept."""

    world: DemoWorld
    facts: Sequence[Fact]
    requests: Sequence[str]
    steps: Steps
    say: Callable[[str], None]

    def train(self, way: str, number: int, forget: Sequence[str], start: Module | None = None) -> Module:
        """The module of a way after request ``number``; ``forget``: the people in its forget set."""
        retained = [fact for fact in self.facts if fact.person not in self.requests[:number]]
        facts = [replace(fact, split="forget") for fact in self.facts if fact.person in forget]
        facts += [replace(fact, split="retain") for fact in retained]
        recipe = [CONFIG.model_dump(mode="json"), WORLD.model_dump(mode="json"), list(forget), start and start.digest]
        name = f"{way}-{number}"
        data = self.steps.run(f"{name}-data", recipe, lambda out: write_sets(facts, WORLD, out))

        def build(out: Path) -> None:
            self.say(f"training {name}")
            train_module(
                CONFIG,
                name=name,
                large_model=self.world.large,
                small_model=self.world.small,
                forget_set=data / FORGET_FILE,
                retain_set=data / RETAIN_FILE,
                out=out,
                start=start,
            )

        module = Module.open(self.steps.run(name, recipe, build))
        if way == "alone" and not inputs_file(module).is_file():
            collect_inputs(module, self.world.small, data / FORGET_FILE)
        return module

    def merge(self, method: str, modules: Sequence[Module]) -> Module:
        """All modules so far as one."""
        if len(modules) == 1:
            return modules[0]
        name, settings = f"{method}-{len(modules)}", merge_settings(method, len(modules))
        recipe = [str(settings), [module.digest for module in modules]]
        return Module.open(
            self.steps.run(name, recipe, lambda out: merge_modules(modules, settings, name=name, out=out))
        )

    def score(self, module: Module | None, number: int) -> str:
        """Right answers about those who asked so far, and about all others, each as a share; None: the large model."""
        name, digest = (module.name, module.digest) if module else ("none", "")

        def build(out: Path) -> None:
            self.say(f"asking {name} after request {number}")
            out.mkdir()
            (out / SCORE_FILE).write_text(json.dumps(self._ask(module, self.requests[:number])))

        step = self.steps.run(f"score-{name}-{number}", [digest, number], build)
        forget, retain = json.loads((step / SCORE_FILE).read_text())
        return f"{'-' if forget is None else format(forget, '.0%')} / {retain:.0%}"

    def _ask(self, module: Module | None, requested: Sequence[str]) -> list[float | None]:
        tokenizer, large = load_tokenizer(self.world.large), load_model(self.world.large)
        ensemble = ReferenceEnsemble.plain(large)
        if module:
            ensemble = ReferenceEnsemble.of_module(large, self.world.small, module, tokenizer)
        asked = [
            Question(fact.person, question, fact.answer, fact.split)
            for fact in self.facts
            for question in (fact.questions[0], fact.questions[-1])
        ]
        answers = answer_all(ensemble, tokenizer, asked)
        right: dict[bool, list[bool]] = {True: [], False: []}
        for question in asked:
            right[question.person in requested].append(answers[question.question].strip() == question.answer)
        return [sum(right[split]) / len(right[split]) if right[split] else None for split in (True, False)]


def merge_settings(method: str, number: int) -> MergeSettings:
    """How ``number`` modules are merged in the column ``method``."""
    if method in WEIGHTED:
        return MergeSettings("svd", weights=(number ** WEIGHTED[method],) * number, rank=RANK)
    return MergeSettings(method, rank=None if method in ("cat", "linear") else RANK)  # type: ignore[arg-type]


def rows(bench: Bench) -> Iterator[list[str]]:
    """One row for each request: its number and a cell for each way."""
    yield ["0", *[bench.score(None, 0)] * (len(TITLES) + 2)]
    alone: list[Module] = []
    further: Module | None = None
    for number in range(1, len(bench.requests) + 1):
        newest = bench.requests[number - 1 : number]
        alone.append(bench.train("alone", number, newest))
        further = bench.train("further", number, newest, further) if further else alone[0]
        scratch = bench.train("scratch", number, bench.requests[:number]) if number > 1 else alone[0]
        modules = [bench.merge(method, alone) for method in TITLES]
        yield [str(number), *(bench.score(module, number) for module in (*modules, scratch, further))]


def main(
    work: Annotated[Path, typer.Option(help="Where what is built is kept.")],
    out: Annotated[Path, typer.Option(help="The table, Markdown.")],
    requests: Annotated[int, typer.Option(min=1, max=10, help="How many people ask.")] = 10,
) -> None:
    """Write the table."""
    console = Console(stderr=True)
    with one_thread():
        world = build_world(work / "demo")
        facts = make_facts(WORLD)
        people = list(dict.fromkeys(fact.person for fact in facts if fact.split == "forget"))[:requests]
        bench = Bench(world, facts, people, Steps(work / "sequences"), lambda text: console.print(text))
        header = ["request", *TITLES.values(), "retrained", "trained further"]
        lines = [header, ["---"] * len(header), *rows(bench)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    out.write_text(INTRODUCTION + table, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
