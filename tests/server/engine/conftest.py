from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine_requests import spec
from kit import Kit, build_kit
from lethe_server.engine import kernels
from lethe_server.engine.service import OffsetEngine
from reference import Reference


@pytest.fixture(scope="session")
def operators(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Those of ``lethe_server.engine.kernels``; a process can load them once."""
    kernels.load(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return build_kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
async def engine(kit: Kit) -> AsyncIterator[OffsetEngine]:
    """Two slots; a test module that needs another one has its own."""
    engine = await OffsetEngine.start(spec(kit))
    yield engine
    await engine.close()


@pytest.fixture(scope="module")
def reference(kit: Kit) -> Reference:
    return kit.reference()
