"""Several processes that train one module, as ``torchrun`` and ``accelerate launch`` start them.

Each has the models to itself and takes its share of every batch; the gradients are summed, so that all have the same
weights after each step. The main process alone computes the fixed logits, scores, writes and speaks. One that fails
says why and ends, and the others end when they miss it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.nn import Parameter

from lethe_offsets.errors import LetheError

T = TypeVar("T")

PATIENCE = timedelta(days=30)  # the logits of the data and an evaluation may take the main process long


@dataclass(frozen=True, slots=True)
class Processes:
    """Process number ``rank`` of ``count``; the main one is 0. What all of them call, they call in the same order."""

    rank: int = 0
    count: int = 1

    @classmethod
    def launched(cls, device: str) -> Processes:
        """Those that a launcher started, or this one alone; ``cuda`` then means each process's own GPU.

        device: ``cpu`` for processes without GPUs; any other, and they talk as GPUs do, where there are any.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return ALONE
        from accelerate import PartialState  # type: ignore[import-untyped]

        state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=PATIENCE)
        return cls(state.process_index, state.num_processes)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def share(self) -> slice:
        """This process's part of a sequence."""
        return slice(self.rank, None, self.count)

    def on_main(self, work: Callable[[], T]) -> T:
        """What ``work`` gives in the main process, where alone it runs; it must be picklable.

        A FloatingPointError is every process's, as something to be decided on; any other error ends them.
        """
        if self.count == 1:
            return work()
        box: list[Any] = [None]
        if self.is_main:
            try:
                box = [work()]
            except FloatingPointError as err:
                box = [err]
        with _together():
            dist.broadcast_object_list(box)
        if isinstance(box[0], FloatingPointError):
            raise box[0]
        found: T = box[0]
        return found

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes first: it downloads for all, and says alone what is wrong for all."""
        if not self.is_main:
            self.gather(None)
        yield
        if self.is_main:
            self.gather(None)  # lets the others go

    def gather(self, part: T) -> list[T]:
        """Every process's part, by rank; each must be picklable."""
        parts = [part] * self.count
        if self.count > 1:
            with _together():
                dist.all_gather_object(parts, part)
        return parts

    def sum_gradients(self, weights: Sequence[Parameter]) -> None:
        """Give each weight the sum of its gradients over the processes, and none where no process has one."""
        if self.count == 1:
            return
        there = torch.tensor([weight.grad is not None for weight in weights])
        parts = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        flat = torch.cat([there.to(parts[0]), *(part.flatten() for part in parts)])
        with _together():
            dist.all_reduce(flat)
        found, *sums = torch.split(flat, [len(weights), *(weight.numel() for weight in weights)])
        for weight, any_there, total in zip(weights, found.tolist(), sums, strict=True):
            weight.grad = total.view_as(weight) if any_there else None


ALONE = Processes()


@contextmanager
def _together() -> Iterator[None]:
    """Raises LetheError where the processes can't talk, as when one is gone; that one has said why itself."""
    try:
        yield
    except RuntimeError as err:
        raise LetheError(f"another training process is gone or out of reach ({str(err).splitlines()[0]})") from err
