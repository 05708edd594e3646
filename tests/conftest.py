from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from lethe_offsets.demo.build import DemoWorld, build_world

# Models this small gain nothing from a second thread, and lose much to waiting on cores that an engine keeps busy.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def demo_world(tmp_path_factory: pytest.TempPathFactory) -> DemoWorld:
    """The demo's models and module; TEST_DEMO_CACHE names a directory that keeps them between runs."""
    cache = os.environ.get("TEST_DEMO_CACHE")
    return build_world(Path(cache) if cache else tmp_path_factory.mktemp("demo"))
