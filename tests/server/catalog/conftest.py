from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from buckets import s3_bucket
from lethe_offsets.module import Module
from tiny_modules import build_modules


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Module]:
    """Modules a and b; don't change their files."""
    return build_modules(tmp_path_factory.mktemp("catalog"), "ab")


@pytest.fixture
def module_path(modules: dict[str, Module], tmp_path: Path) -> Path:
    """A copy of module a for the test to change."""
    return Path(shutil.copytree(modules["a"].path, tmp_path / "module"))


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    with s3_bucket("modules") as url:
        yield url
