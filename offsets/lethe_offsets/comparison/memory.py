"""How processes that train keep what they free, for the many passes of small models, whose logits are most of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "GLIBC_TUNABLES"
KEEPING = ("glibc.malloc.hugetlb=1", "glibc.malloc.mmap_max=0", f"glibc.malloc.trim_threshold={2**40}")


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Processes that are started meanwhile keep freed memory, in huge pages where the kernel has some.

    glibc gives blocks of some 32 MiB back as soon as they are free, and every page of the next one is a fault again.
    Measured on 240 steps of a model of 4.3M parameters on a virtual machine: 42 s of a core for 60 steps, 28 to 39
    with memory kept, 25 to 28 with huge pages too. What is set already stays, and elsewhere than on glibc nothing
    changes.
    """
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = ":".join([*KEEPING, *([before] if before else [])])  # of two values the last counts
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
