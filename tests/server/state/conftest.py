from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buckets import s3_bucket
from lethe_offsets.module import Module
from lethe_server.state.store import MemoryStore, StateStore, open_store
from tiny_modules import build_modules

Open = Callable[[], StateStore]


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Module]:
    """Modules a and b; don't change their files."""
    return build_modules(tmp_path_factory.mktemp("state"), "ab")


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    with s3_bucket("state") as url:
        yield url


@pytest.fixture(params=["directory", "file", "memory", "s3"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens one shared place, each time as another server would: with a cache of its own."""
    match request.param:
        case "directory":
            place = str(tmp_path / "state")
        case "file":
            place = f"file://{tmp_path}/state"
        case "memory":
            place = f"memory://{uuid.uuid4()}"
        case _:
            place = f"{request.getfixturevalue('bucket')}/{uuid.uuid4()}"
    return lambda: open_store(place, tmp_path / f"cache-{uuid.uuid4()}")


@pytest.fixture
def memory_store() -> StateStore:
    return MemoryStore()
