"""A model that says what a test tells it to, and the demo's world with what an evaluation asks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

import tiny
from lethe_offsets.demo.build import DemoWorld
from lethe_offsets.demo.world import WorldConfig, make_facts
from lethe_offsets.evaluation.local import Local
from lethe_offsets.evaluation.metrics import Metric, Result, Settings, World
from lethe_offsets.evaluation.models import Pair, Scored
from lethe_offsets.evaluation.sets import Item, Sets
from lethe_offsets.module import Module
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.threads import one_thread


@dataclass(frozen=True)
class Scripted:
    """Satisfies ``Judged``. replies: by a part of the prompt, the first that it has; samples take turns.

    scores: by a part of the answer.
    """

    replies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    scores: Mapping[str, Scored] = field(default_factory=dict)
    name: str = "module"
    identity: str = "scripted"
    tokenizer: PreTrainedTokenizerBase = field(default_factory=tiny.tokenizer)
    asked: list[str] = field(default_factory=list)

    def score(self, pairs: Sequence[Pair], whole: bool = False, report: Report = silent) -> list[Scored]:
        texts = [self.tokenizer.decode(rest) for _, rest in pairs]
        return [next(scored for part, scored in self.scores.items() if part in text) for text in texts]

    def generate(
        self, prompts: Sequence[list[int]], max_tokens: int, *, num_samples: int = 1, **settings: Any
    ) -> list[list[str]]:
        texts = [self.tokenizer.decode(prompt) for prompt in prompts]
        self.asked.extend(texts)
        found = [next((said for part, said in self.replies.items() if part in text), ("",)) for text in texts]
        return [[said[turn % len(said)] for turn in range(num_samples)] for said in found]


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture
def scored() -> Callable[..., Scored]:
    """A continuation, from numbers; each token is the most probable one unless ``greedy`` says otherwise."""

    def make(logprobs: Sequence[float], greedy: Sequence[bool] | None = None, **whole: Sequence[float]) -> Scored:
        flags = torch.tensor([True] * len(logprobs) if greedy is None else greedy)
        return Scored(torch.tensor(logprobs), flags, **{name: torch.tensor(values) for name, values in whole.items()})

    return make


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def demo_sets() -> Sets:
    """The demo's facts; people of another world, whom its models have never met, are the holdout."""
    facts = make_facts(WorldConfig())
    known = {fact.person for fact in facts}
    sets: dict[str, list[Item]] = {"forget": [], "retain": [], "holdout": []}
    for fact in facts:
        terms = (fact.value,) if fact.split == "forget" else ()
        sets[fact.split].append(
            Item(fact.questions[0], fact.answer, terms=terms, paraphrased_question=fact.questions[-1])
        )
    for fact in make_facts(WorldConfig(seed=1)):
        if fact.person not in known:
            sets["holdout"].append(Item(fact.questions[0], fact.answer))
    return Sets(**{name: tuple(items) for name, items in sets.items()})


@pytest.fixture(scope="session")
def demo_models(demo_world: DemoWorld) -> dict[str, Local]:
    target = Local.of_model("target", demo_world.large)
    module = Local.of_module("module", target, demo_world.small, Module.open(demo_world.module))
    return {"target": target, "module": module}


@pytest.fixture(scope="session")
def measure(demo_models: dict[str, Local], demo_sets: Sets) -> Callable[..., dict[str, Result]]:
    """A metric of the demo's module, of its target, or of both; ``plain`` is there for those that need it."""
    from lethe_offsets.evaluation.axes.plain import Plain

    def run(metric: Metric, *names: str, num_samples: int = 20) -> dict[str, Result]:
        settings, found = Settings(max_tokens=32, num_samples=num_samples), dict[str, Result]()
        for name in names or ("target", "module"):
            world = World(demo_models[name], demo_models, demo_sets, settings)
            if "plain" in metric.needs:
                world = World(world.judged, demo_models, demo_sets, settings, results={"plain": Plain().run(world)})
            found[name] = metric.run(world)
        return found

    return run
