"""How many cores a computation takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """For models of a few million parameters: a second thread gains little, and on busy cores loses much.

    Measured on two cores shared with other work: 19 s with one thread, 218 s with two that waited for each other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
