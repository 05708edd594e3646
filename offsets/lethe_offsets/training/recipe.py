"""From two models and two files to a forget module."""

from __future__ import annotations

import shutil
from pathlib import Path

from lethe_offsets.create import create_module
from lethe_offsets.digests import forget_set_digest
from lethe_offsets.errors import ModuleIncompatible
from lethe_offsets.module import Module
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import read_examples
from lethe_offsets.training.logits import model_logits
from lethe_offsets.training.loop import train
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.reference import load_model, load_tokenizer, special_ids


def train_module(
    config: TrainingConfig,
    *,
    name: str,
    large_model: str | Path,
    small_model: str | Path,
    forget_set: Path,
    retain_set: Path,
    out: Path,
    version: str = "1",
    description: str = "",
    licence: str = "unknown",
    device: str = "cpu",
    report: Report = silent,
) -> Module:
    """Train a forget module on JSON lines (see ``records.py``) and write it to ``out``, which must not exist.

    The cached logits and the checkpoint lie in ``<out>.training`` until the module is whole; after an interruption
    the same call goes on from the checkpoint. Both models run in float32 on ``device``.

    Raises InvalidInput for data, ModuleIncompatible when the two models' tokenizers differ.
    """
    tokenizer = load_tokenizer(large_model)
    if load_tokenizer(small_model).get_vocab() != tokenizer.get_vocab():
        raise ModuleIncompatible("small_model", str(small_model), "a model with the large model's tokenizer")
    forget = read_examples(forget_set, tokenizer, "forget", config.max_length)
    retain = read_examples(retain_set, tokenizer, "retain", config.max_length)
    folder = out.with_name(f"{out.name}.training")
    large, small = (load_model(model, device=device) for model in (large_model, small_model))
    adapter = train(config, model_logits(large), small, forget, retain, special_ids(large, tokenizer), folder, report)
    module = create_module(
        name,
        small_model,
        out=out,
        plus=adapter,
        rule=config.rule,
        description=description,
        version=version,
        large_model=Path(large_model).name,
        algorithm=f"offset unlearning, {config.objective.name} and {config.retain.name}",
        hyperparameters=config.model_dump(mode="json", exclude={"rule"}),
        forget_set_digest=forget_set_digest(forget_set.read_text(encoding="utf-8").splitlines()),
        licence=licence,
    )
    shutil.rmtree(folder)
    return module
