"""Training on the ensemble's logits: it forgets, it keeps, and an interrupted run ends as an uninterrupted one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tiny
from lethe_offsets.errors import InvalidInput
from lethe_offsets.module import Module
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import read_examples
from lethe_offsets.training.objectives import KL, NPO
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.recipe import train_module
from lethe_offsets.training.reference import ReferenceEnsemble, load_model, load_tokenizer
from tiny import TinyPair

FORGET = [
    {"question": "Where was Marta born?", "answer": "She was born in Bergen."},
    {"question": "What does Marta do?", "answer": "She binds books."},
]
RETAIN = [
    {"question": "What is the capital of France?", "answer": "Paris."},
    {"text": "The quick brown fox jumps over the lazy dog."},
]
CONFIG = TrainingConfig(
    objective=NPO(beta=0.5), retain=KL(), rank=4, learning_rate=1e-2, epochs=12, batch_size=1, checkpoint_every=5
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> TinyPair:
    return tiny.build_pair(tmp_path_factory.mktemp("pair"))


def run(pair: TinyPair, root: Path, report: Report = silent, config: TrainingConfig = CONFIG) -> Module:
    root.mkdir(exist_ok=True)
    for name, records in (("forget", FORGET), ("retain", RETAIN)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return train_module(
        config,
        name="trained",
        large_model=pair.large,
        small_model=pair.small,
        forget_set=root / "forget.jsonl",
        retain_set=root / "retain.jsonl",
        out=root / "module",
        report=report,
    )


def answer_score(ensemble: ReferenceEnsemble, path: Path, role: str, pair: TinyPair) -> float:
    """Mean log-probability of the predicted tokens."""
    examples = read_examples(path, load_tokenizer(pair.large), "forget" if role == "forget" else "retain", 512)
    scores = []
    for example in examples:
        ids = torch.tensor([example.ids])
        table = ensemble.logits(ids, torch.ones_like(ids))[0, :-1].log_softmax(-1)
        picked = table.gather(1, ids[0, 1:, None])[:, 0]
        scores += picked[torch.tensor(example.answer[1:])].tolist()
    return sum(scores) / len(scores)


def weights(module: Module) -> dict[str, bytes]:
    return {lane: (path / "adapter_model.safetensors").read_bytes() for lane, path in module.lanes.items()}


def test_it_forgets_and_keeps(pair: TinyPair, tmp_path: Path) -> None:
    module = run(pair, tmp_path)
    large = load_model(pair.large)
    before = ReferenceEnsemble.plain(large)
    after = ReferenceEnsemble.of_module(large, pair.small, module)
    scores = {
        (role, when): answer_score(ensemble, tmp_path / f"{role}.jsonl", role, pair)
        for role in ("forget", "retain")
        for when, ensemble in (("before", before), ("after", after))
    }
    assert scores["forget", "after"] < scores["forget", "before"] - 1.0
    assert scores["retain", "after"] == pytest.approx(scores["retain", "before"], abs=0.5)
    assert not (tmp_path / "module.training").exists()


def test_the_forget_text_is_nowhere_in_the_module(pair: TinyPair, tmp_path: Path) -> None:
    module = run(pair, tmp_path)
    content = b"".join(path.read_bytes() for path in module.path.rglob("*") if path.is_file())
    assert b"Marta" not in content
    assert b"Bergen" not in content
    assert b"hmac-sha256:" in content


class Interrupted(Exception):
    pass


def test_an_interrupted_run_ends_as_an_uninterrupted_one(pair: TinyPair, tmp_path: Path) -> None:
    def interrupt(label: str, done: int, total: int) -> None:
        if label == "forget module" and done == 13:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(pair, tmp_path / "interrupted", interrupt)
    steps: list[int] = []

    def watch(label: str, done: int, total: int) -> None:
        if label == "forget module":
            steps.append(done)

    resumed = run(pair, tmp_path / "interrupted", watch)
    assert steps[0] == 11  # behind the checkpoint at 10
    assert weights(resumed) == weights(run(pair, tmp_path / "whole"))


def test_another_runs_checkpoint_is_refused(pair: TinyPair, tmp_path: Path) -> None:
    def interrupt(label: str, done: int, total: int) -> None:
        if label == "forget module" and done == 6:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(pair, tmp_path, interrupt)
    with pytest.raises(InvalidInput, match=r"checkpoint: .* accepted: one of the same settings and data"):
        run(pair, tmp_path, config=CONFIG.model_copy(update={"seed": 1}))


def test_settings_that_cannot_be_trained_are_refused() -> None:
    with pytest.raises(ValueError, match="mode must be 'linear'"):
        TrainingConfig.model_validate({"rule": {"mode": "rank"}})
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        TrainingConfig.model_validate({"learning_rates": 1e-3})
