"""A tiny pair with a module, in process."""

from __future__ import annotations

import pytest

from kit import Kit, build_kit
from lethe_offsets.evaluation.local import Local


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return build_kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="session")
def target(kit: Kit) -> Local:
    return Local.of_model("target", kit.large)


@pytest.fixture(scope="session")
def judged(kit: Kit, target: Local) -> Local:
    """The target with a module on both lanes, whose rule has a strength, a clip and pinned tokens."""
    return Local.of_module("module", target, kit.small, kit.modules["both"])


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that cuts no line."""
    monkeypatch.setenv("COLUMNS", "200")
