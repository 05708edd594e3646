"""What tests of both packages build once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from signing_keys import make_keys

if TYPE_CHECKING:
    from lethe_offsets.demo.build import DemoWorld
    from lethe_offsets.module import Module


def _take_own_cores() -> None:
    """Tests run side by side (``pytest -n``) share the cores out, with the engines that they start."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        number, count = int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number % len(cores) :: count])


_take_own_cores()  # before torch counts them


def of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's own directory."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def demo_world(tmp_path_factory: pytest.TempPathFactory) -> DemoWorld:
    """What ``lethe demo`` builds, in about a minute of one core, once for all workers; don't change it.

    With TEST_DEMO_CACHE set to a directory it is kept there for the next run.
    """
    from lethe_offsets.demo.build import build_world  # seconds to import

    folder = Path(os.environ.get("TEST_DEMO_CACHE") or of_all_workers(tmp_path_factory))
    return build_world(folder / "demo")  # which waits for whoever builds there


@pytest.fixture(scope="session")
def teller(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Module]:
    """A real pretrained model and a module with which it doesn't say a name, once for all workers."""
    import stories  # seconds to import

    stories.source_or_skip()
    folder = of_all_workers(tmp_path_factory)
    with FileLock(folder / "stories.lock"):
        return stories.model_and_module(folder / "stories")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the private keys ours.key and theirs.key, and ours.pem and theirs.pem, their public ones."""
    directory = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_keys(directory, name)
    return directory
