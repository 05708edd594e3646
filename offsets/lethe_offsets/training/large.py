"""The large model's part in a run: the model itself, or a recording of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lethe_offsets.digests import file_digest
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.recording.file import Recording
from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import Large, model_logits
from lethe_offsets.training.reference import load_model, load_tokenizer, special_ids


@dataclass(frozen=True, slots=True, eq=False)
class LargeSide:
    """name: for the manifest. identity: what tells it from another one. special_ids [s] as in ``apply_rules``."""

    logits: Large
    name: str
    identity: str
    special_ids: Tensor


def open_large(
    model: str | Path | None,
    recording: Path | None,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    small: PreTrainedModel,
    device: str | None = None,
) -> LargeSide:
    """A model in the small model's dtype, on its device unless given, or a recording of these; one of the two.

    ``tokenizer`` is the small model's. Raises InvalidInput for both or neither, ModuleIncompatible for a model of
    another tokenizer, and as ``Recording.check``.
    """
    if model is not None and recording is None:
        return _load(model, tokenizer, small, device or str(small.device))
    if recording is not None and model is None:
        return _open(recording, examples, tokenizer, small)
    raise InvalidInput("model, logits", [model and str(model), recording and str(recording)], "one of the two")


def _load(source: str | Path, tokenizer: PreTrainedTokenizerBase, small: PreTrainedModel, device: str) -> LargeSide:
    if sound_tokenizer("model", source).get_vocab() != tokenizer.get_vocab():
        raise ModuleIncompatible("model", str(source), "a model with the small model's tokenizer")
    model = sound_model("model", source, device, small.dtype)
    return LargeSide(model_logits(model), Path(source).name, str(source), special_ids(model, tokenizer))


def _open(
    path: Path, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, small: PreTrainedModel
) -> LargeSide:
    recording = Recording.open(path)
    recording.check(examples, tokenizer)
    ends = special_ids(small, tokenizer)  # the large model's configuration isn't at hand
    return LargeSide(recording, recording.header.model, file_digest(path), ends)


def sound_tokenizer(field: str, source: str | Path) -> PreTrainedTokenizerBase:
    """A model's tokenizer. Raises InvalidInput where there is none."""
    with _named(field, source):
        return load_tokenizer(source)


def sound_model(field: str, source: str | Path, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """A model. Raises InvalidInput where there is none, or no such device."""
    with _named(field, source):
        return load_model(source, device, dtype)


@contextmanager
def _named(field: str, source: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as err:
        accepted = f"a directory or Hub name of a causal language model ({str(err).strip().splitlines()[0]})"
        raise InvalidInput(field, str(source), accepted) from err
