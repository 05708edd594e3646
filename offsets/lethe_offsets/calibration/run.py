"""From a module, a recording of the large model and two sets to a module with the best rule of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lethe_offsets.calibration.grid import Point, choose
from lethe_offsets.calibration.scores import grid_scores, reference_scores
from lethe_offsets.create import check_free, write_module
from lethe_offsets.digests import small_model_digest, tokenizer_digest
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.manifest import Manifest
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.recording.file import Recording
from lethe_offsets.sums import CONFIG_FILE, WEIGHTS_FILE
from lethe_offsets.training.data import Example
from lethe_offsets.training.large import sound_model, sound_tokenizer
from lethe_offsets.training.logits import model_logits
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.reference import load_lanes, load_model, special_ids


@dataclass(frozen=True, slots=True)
class Calibration:
    """before: the large model alone. points: one for each rule of the grid. chosen: one of them."""

    before: Point
    points: tuple[Point, ...]
    chosen: Point


def check_target(module: Module, small_model: str, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Raises ModuleIncompatible for another small model or tokenizer than the module's, InvalidInput for ``out``."""
    check_free(out)
    made_for = module.manifest
    pairs = (
        ("small_model", made_for.small_model.digest, small_model_digest(small_model)),
        ("tokenizer", made_for.tokenizer_digest, tokenizer_digest(tokenizer)),
    )
    for field, wanted, found in pairs:
        if wanted != found:
            raise ModuleIncompatible(field, small_model, f"the one {module.name} was made for, {wanted}")


def calibrate(
    module: Module,
    rules: Sequence[Rule],
    recording: Recording,
    forget: Sequence[Example],
    retain: Sequence[Example],
    *,
    small_model: str,
    tokenizer: PreTrainedTokenizerBase,
    reference: Path | None = None,
    max_retain_loss: float = 0.05,
    report: Report = silent,
) -> Calibration:
    """Score every rule on answers to forget and to retain, and choose one; see ``grid.choose``.

    recording: of the large model, checked to hold both sets. reference: a model that never learned what is to be
    forgotten, its directory or a recording of it on the forget set. Tokens that a rule pins are taken from the small
    model's settings.

    Raises InvalidInput for a reference that doesn't fit and as ``choose``, ModuleCorrupt for a changed module.
    """
    retrained = None if reference is None else _open_reference(reference, forget, tokenizer)
    module.adapters()  # verifies the files once more, right before they are read
    small = load_model(small_model)
    plus, minus = (model_logits(lane) for lane in load_lanes(small_model, module))
    tried, specials = [Rule(strength=0.0), *rules], special_ids(small, tokenizer)
    scores = grid_scores([*forget, *retain], recording, plus, minus, tried, specials, report)
    wanted = None if retrained is None else reference_scores(forget, retrained)
    before, *points = (_point(rule, row, len(forget), wanted) for rule, row in zip(tried, scores, strict=True))
    return Calibration(before, tuple(points), choose(points, before, max_retain_loss))


def write_calibrated(module: Module, result: Calibration, out: Path, version: str) -> Module:
    """The module with the chosen rule, at ``out``; scores before and after are among its hyperparameters.

    Raises InvalidInput for ``out``, ModuleCorrupt when the module has changed since it was opened.
    """
    old, chosen, before = Module.open(module.path, module.digest), result.chosen, result.before
    scores: dict[str, JsonValue] = {
        "module": module.ref,
        "forget": [before.forget, chosen.forget],
        "retain": [before.retain, chosen.retain],
        "distance": [before.distance, chosen.distance],
    }
    fields = dict(old.manifest)
    fields |= {
        "version": version,
        "rule": chosen.rule,
        "hyperparameters": {**old.manifest.hyperparameters, "calibration": scores},
    }
    lanes = {
        lane: {name: (folder / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE)}
        for lane, folder in old.lanes.items()
    }
    return write_module(Manifest.build(**fields), lanes, out)


def _open_reference(
    path: Path, forget: Sequence[Example], tokenizer: PreTrainedTokenizerBase
) -> Recording | PreTrainedModel:
    if path.is_file():
        recording = Recording.open(path)
        recording.check(forget, tokenizer)
        return recording
    if sound_tokenizer("reference", path).get_vocab() != tokenizer.get_vocab():
        raise InvalidInput("reference", str(path), "a model with the small model's tokenizer, or a recording of it")
    return sound_model("reference", path, "cpu", torch.float32)


def _point(rule: Rule, scores: Tensor, num_forget: int, wanted: Tensor | None) -> Point:
    forget, retain = scores[:num_forget], scores[num_forget:]
    distance = None if wanted is None else float((forget - wanted).abs().mean())
    return Point(rule, float(forget.mean()), float(retain.mean()), distance)
