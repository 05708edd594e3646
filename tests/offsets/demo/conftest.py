"""One thread for whatever runs a model: more of them wait for each other where cores are shared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lethe_offsets.training.threads import one_thread


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield
