"""The demo's world, from a seed to a forget module; every finished step is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict
from transformers import PreTrainedTokenizerFast

from lethe_offsets.demo.pretrain import LARGE, SMALL, PretrainConfig, pretrain, train_tokenizer
from lethe_offsets.demo.sets import FACTS_FILE, FORGET_FILE, PARAPHRASES_FILE, RETAIN_FILE, write_sets
from lethe_offsets.demo.world import WorldConfig, make_facts
from lethe_offsets.steps import Steps
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.objectives import KL, Undial
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.recipe import train_module
from lethe_offsets.training.threads import one_thread

RECIPE = 1  # to be raised when the same settings build something else than before
MODULE_NAME = "forgotten-people"

TRAINING = TrainingConfig(
    objective=Undial(gamma=10.0),
    retain=KL(weight=1.0),
    learning_rate=3e-3,
    weight_decay=0.0,
    epochs=10,
    batch_size=24,
    retain_batch_size=48,
    checkpoint_every=20,
)


class DemoConfig(BaseModel):
    """Everything the demo is built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    world: WorldConfig = WorldConfig()
    large: PretrainConfig = LARGE
    small: PretrainConfig = SMALL
    training: TrainingConfig = TRAINING


@dataclass(frozen=True, slots=True)
class DemoWorld:
    """What was built. facts, paraphrases: JSON lines of person, question, answer, split (``forget`` or ``retain``).

    facts asks for each fact in the usual way; paraphrases in a way that the module wasn't trained on.
    """

    large: Path
    small: Path
    module: Path
    facts: Path
    paraphrases: Path


def build_world(
    cache_dir: Path, config: DemoConfig | None = None, fresh: bool = False, report: Report = silent
) -> DemoWorld:
    """Build below ``cache_dir`` what isn't there yet; a step is built again when what it depends on has changed.

    fresh: build everything again. Another process that builds in the same place is waited for.
    """
    config = config or DemoConfig()
    cache_dir.mkdir(parents=True, exist_ok=True)
    steps, world, facts = Steps(cache_dir, fresh), config.world, make_facts(config.world)
    base = [RECIPE, world.model_dump(mode="json")]
    recipes = {
        "large": [*base, config.large.model_dump(mode="json")],
        "small": [*base, config.small.model_dump(mode="json")],
    }
    with FileLock(cache_dir / ".lock"), one_thread():
        data = steps.run("data", base, lambda out: write_sets(facts, world, out))
        words = steps.run("tokenizer", base, lambda out: train_tokenizer(facts, world).save_pretrained(out))

        def model(name: str, settings: PretrainConfig) -> Path:
            def build(out: Path) -> None:
                tokenizer = PreTrainedTokenizerFast.from_pretrained(words)
                pretrain(settings, facts, world, tokenizer, out, f"{name} model", report)

            return steps.run(name, recipes[name], build)

        large, small = model("large", config.large), model("small", config.small)
        module = steps.run(
            "module",
            [recipes, config.training.model_dump(mode="json")],
            lambda out: train_module(
                config.training,
                name=MODULE_NAME,
                large_model=large,
                small_model=small,
                forget_set=data / FORGET_FILE,
                retain_set=data / RETAIN_FILE,
                out=out,
                description=f"{world.forgotten} of {world.people} fictitious people, and all that is known of them",
                licence="Apache-2.0",
                report=report,
            ),
        )
    return DemoWorld(large, small, module, data / FACTS_FILE, data / PARAPHRASES_FILE)
