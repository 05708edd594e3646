"""The fixed part of the ensemble: logits of the large model and the minus lane, computed once over the data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import Module
from transformers import PreTrainedModel

from lethe_offsets.recording.file import Recording
from lethe_offsets.training.data import Example
from lethe_offsets.training.progress import Report, silent

LogitsFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""ids, mask and which positions are asked for (bool), each [batch, length] and padded on the right, to their logits
[positions, vocab], one text's after the other's."""

Large = LogitsFn | Recording
"""Where the large model's logits come from."""

PASS_TOKENS = 2048  # in one forward pass over the fixed data, padding included


def model_logits(model: PreTrainedModel | PeftModel) -> LogitsFn:
    """A Hugging Face causal language model as a function of ids and mask.

    Its head sees only the positions that are asked for: it is much of a small model's work, and logits over a large
    vocabulary are large.
    """

    def logits(ids: Tensor, mask: Tensor, asked: Tensor) -> Tensor:
        ids, mask = ids.to(model.device), mask.to(model.device)
        with _head_at(model, asked):
            out: Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return out if out.dim() == 2 else out[asked.to(out.device)]

    return logits


@contextmanager
def _head_at(model: PreTrainedModel | PeftModel, asked: Tensor) -> Iterator[None]:
    """The module of the head, where the model has one and calls it, gets its input [batch, length, hidden] as
    [positions, hidden]; what comes after it looks at single logits."""
    head: Module | None = model.get_output_embeddings()
    if head is None:
        yield
        return

    def select(_: Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *rest = given
        return hidden[asked.to(hidden.device)], *rest

    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def pad(examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """ids, mask and predicted, each [batch, length]; ``predicted`` is shifted: True where the next token counts."""
    length = max(len(example.ids) for example in examples)
    ids, mask, predicted = (torch.zeros(len(examples), length, dtype=torch.long) for _ in range(3))
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        mask[row, : len(example.ids)] = 1
        predicted[row, : len(example.ids) - 1] = torch.tensor(example.answer[1:])
    return ids, mask, predicted.bool()


@dataclass(frozen=True, slots=True, eq=False)
class FixedLogits:
    """large [rows, vocab] and minus [rows, small vocab]: one row for each predicted token, example after example.

    start[i]: the first row of example i; one more entry ends the last one.
    """

    large: Tensor
    minus: Tensor
    start: tuple[int, ...]

    @classmethod
    def open(
        cls, folder: Path, examples: Sequence[Example], widths: tuple[int, int], dtype: torch.dtype
    ) -> FixedLogits:
        """What ``record_logits`` left in ``folder``, maybe in another process; widths: as it had them."""
        start = _starts(examples)
        large, minus = (_mapped(_file(folder, lane), start[-1], width, dtype) for lane, width in enumerate(widths))
        return cls(large, minus, start)

    @property
    def widths(self) -> tuple[int, int]:
        """The large model's vocabulary and the small one's."""
        return self.large.shape[1], self.minus.shape[1]

    def rows(self, examples: Sequence[int]) -> Tensor:
        """The rows of these examples, in their order: long, [n]."""
        return torch.cat([torch.arange(self.start[index], self.start[index + 1]) for index in examples])


def record_logits(
    examples: Sequence[Example],
    large: Large,
    minus: LogitsFn,
    folder: Path,
    dtype: torch.dtype,
    report: Report = silent,
) -> FixedLogits:
    """Both lanes' logits over the predicted tokens, in two files mapped into memory.

    A recording must hold the examples (see ``Recording.check``). The files take rows x vocabulary x bytes of ``dtype``
    each, and are gone when ``folder`` is.
    """
    start = _starts(examples)
    stores: list[Tensor] = []
    with torch.inference_mode():
        for done, batch in enumerate(batches := list(passes(examples))):
            place = torch.cat([torch.arange(start[index], start[index + 1]) for index in batch])
            lanes = _rows([examples[index] for index in batch], large, minus)
            for lane, rows in enumerate(lanes):
                if len(stores) == lane:
                    _allocate(_file(folder, lane), start[-1] * rows.shape[-1] * dtype.itemsize)
                    stores.append(_mapped(_file(folder, lane), start[-1], rows.shape[-1], dtype))
                stores[lane][place] = rows.to("cpu", dtype)
            report("logits of the data", done + 1, len(batches))
    return FixedLogits(large=stores[0], minus=stores[1], start=start)


def _rows(examples: Sequence[Example], large: Large, minus: LogitsFn) -> tuple[Tensor, Tensor]:
    """Large and minus over the predicted tokens of ``examples``."""
    ids, mask, predicted = pad(examples)

    small = minus(ids, mask, predicted)
    if isinstance(large, Recording):
        return large.logits(examples, small.shape[-1]), small
    return large(ids, mask, predicted), small


def passes(examples: Sequence[Example]) -> Iterator[list[int]]:
    """Examples of like lengths together, at most ``PASS_TOKENS`` padded tokens at once."""
    batch: list[int] = []
    for index in sorted(range(len(examples)), key=lambda index: -len(examples[index].ids)):
        if batch and (len(batch) + 1) * len(examples[batch[0]].ids) > PASS_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _starts(examples: Sequence[Example]) -> tuple[int, ...]:
    return tuple(accumulate((sum(example.answer) for example in examples), initial=0))


def _file(folder: Path, lane: int) -> Path:
    return folder / f"logits-{lane}.bin"


def _allocate(path: Path, size: int) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here; in a mapped file it would end the process
            os.posix_fallocate(file.fileno(), 0, size)


def _mapped(path: Path, rows: int, width: int, dtype: torch.dtype) -> Tensor:
    return torch.from_file(str(path), shared=True, size=rows * width, dtype=dtype).view(rows, width)
