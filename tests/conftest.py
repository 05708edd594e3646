from __future__ import annotations

import os
from pathlib import Path

import pytest

from lethe_offsets.demo.build import DemoWorld, build_world


@pytest.fixture(scope="session")
def demo_world(tmp_path_factory: pytest.TempPathFactory) -> DemoWorld:
    """The demo's models and module; TEST_DEMO_CACHE names a directory that keeps them between runs."""
    cache = os.environ.get("TEST_DEMO_CACHE")
    return build_world(Path(cache) if cache else tmp_path_factory.mktemp("demo"))
