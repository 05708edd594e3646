"""From two models, or one and a recording, and two sets to a forget module."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lethe_offsets.create import check_free, create_module
from lethe_offsets.digests import SALT_BYTES, forget_set_digest, small_model_digest
from lethe_offsets.manifest import Lane, check_label
from lethe_offsets.module import Module
from lethe_offsets.sums import CURVE_FILE, TRAINING_FILE, WEIGHTS_FILE
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.curve import draw_curve
from lethe_offsets.training.data import encode_set
from lethe_offsets.training.large import open_large, sound_model, sound_tokenizer
from lethe_offsets.training.logits import FixedLogits, model_logits, record_logits
from lethe_offsets.training.overlap import check_disjoint
from lethe_offsets.training.processes import ALONE, Processes
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.records import Record
from lethe_offsets.training.scores import SCORE
from lethe_offsets.training.sources import load_records
from lethe_offsets.training.start import read_start
from lethe_offsets.training.sweep import RateResult, best, rate_folder, train_rates
from lethe_offsets.training.trainee import Material
from lethe_offsets.writing import writing


def train_module(
    config: TrainingConfig,
    *,
    name: str,
    small_model: str | Path,
    forget_set: str | Path,
    retain_set: str | Path,
    out: Path,
    large_model: str | Path | None = None,
    logits: Path | None = None,
    rates: Sequence[float] = (),
    start: Module | None = None,
    version: str = "1",
    description: str = "",
    licence: str = "unknown",
    device: str = "cpu",
    large_device: str | None = None,
    processes: Processes = ALONE,
    report: Report = silent,
) -> Module:
    """Train a forget module on two sets (see ``sources.py``) and write it to ``out``, which must not exist.

    The large model is given itself, or by ``logits``, a recording of it over these sets (``lethe record``). rates:
    learning rates, of which the one with the best score is kept (see ``scores.py``); the config's own without them.
    start: a module to train further. large_device: another place for the large model; ``auto`` for all GPUs
    together. Several ``processes`` call this with equal arguments and end with the module of one alone, but for the
    order in which gradients are summed; they see the same files.

    What a run computes lies in ``<out>.training`` until the module is whole; after an interruption the same call goes
    on from the last checkpoint to the same module. Equal arguments give equal bytes on one machine, apart from the
    time of creation.

    Raises InvalidInput for data, models and an ``out`` that can't be had, ModuleIncompatible when the two models'
    tokenizers differ.
    """
    with processes.main_first():
        check_free(out)
        for field, label in (("name", name), ("version", version)):
            check_label(field, label)
        tokenizer = sound_tokenizer("small_model", small_model)
        records = load_records(forget_set), load_records(retain_set)
        check_disjoint(*records)
        forget = encode_set(records[0], tokenizer, "forget", config)
        examples = [*forget, *encode_set(records[1], tokenizer, "retain", config)]
        small = sound_model("small_model", small_model, device, getattr(torch, config.dtype))
        models = [small_model_digest(small_model)]
        begin = read_start(start, config, models[0]) if start else None
    folder = out.with_name(f"{out.name}.training")
    dtype = getattr(torch, config.cache_dtype)

    def record() -> tuple[str, str, Tensor, tuple[int, int]]:
        """What is known of the large model, which is gone afterwards."""
        large = open_large(large_model, logits, examples, tokenizer, small, large_device)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            widths = record_logits(examples, large.logits, model_logits(small), folder, dtype, report).widths
        return large.name, large.identity, large.special_ids, widths

    large_name, identity, special_ids, widths = processes.on_main(record)
    fixed = FixedLogits.open(folder, examples, widths, dtype)
    material = Material(examples, len(forget), fixed, small, special_ids)
    models += [identity, *([start.digest] if start else [])]
    results = train_rates(config, rates or (config.learning_rate,), material, folder, models, report, begin, processes)

    def write() -> Module:
        chosen = best(results)
        lanes: dict[Lane, Path] = {lane: rate_folder(folder, chosen.learning_rate) / lane for lane in config.lanes}
        module = create_module(
            name,
            small_model,
            out=out,
            plus=lanes.get("plus"),
            minus=lanes.get("minus"),
            rule=config.rule,
            description=description,
            version=version,
            large_model=large_name,
            algorithm=_algorithm(config),
            hyperparameters=config.model_copy(update={"learning_rate": chosen.learning_rate}).model_dump(
                mode="json", exclude={"rule"}
            ),
            forget_set_digest=_digest(records[0], lanes.values()),
            licence=licence,
            extras=_scores(results, chosen),
        )
        shutil.rmtree(folder)
        return module

    return processes.on_main(write)


def _algorithm(config: TrainingConfig) -> str:
    terms = [config.objective.name, *([config.retain.name] if config.retain else [])]
    return f"offset unlearning, {' and '.join(terms)}" if config.objective.trained == "ensemble" else terms[0]


def _digest(records: Sequence[Record], lanes: Iterable[Path]) -> str:
    """Of the records as JSON lines. The salt is drawn from the weights, so that an equal run gives an equal digest."""
    salt = hashlib.sha256(b"".join((lane / WEIGHTS_FILE).read_bytes() for lane in lanes)).digest()[:SALT_BYTES]
    return forget_set_digest([record.model_dump_json(exclude_none=True) for record in records], salt)


def _scores(results: Sequence[RateResult], chosen: RateResult) -> dict[str, bytes]:
    """What the module's folder says of its training: numbers and a picture."""
    content = {
        "score": SCORE,
        "learning_rate": chosen.learning_rate,
        "runs": [result.model_dump(mode="json") for result in results],
    }
    files = {TRAINING_FILE: json.dumps(content, indent=2).encode() + b"\n"}
    picture = draw_curve(chosen.scores, chosen.kept_step)
    return files | ({CURVE_FILE: picture} if picture is not None else {})
