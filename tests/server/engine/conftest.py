from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine_requests import spec
from kit import Kit, build_kit
from lethe_server.engine import kernels
from lethe_server.engine.compat import cache_folder
from lethe_server.engine.service import OffsetEngine
from reference import Reference


@pytest.fixture(scope="session")
def operators() -> None:
    """Those of ``lethe_server.engine.kernels``; compiled where engines look for them. A process can load them once."""
    kernels.load(cache_folder())


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
