from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from kit import Kit, build_kit
from server_process import Server, serving
from warm_processes import warm


@pytest.fixture(scope="module", autouse=True)
def _warm(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every module that is said to start an engine."""
    with warm() if request.node.get_closest_marker("engine") else nullcontext():
        yield


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return build_kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
def server(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Modules plain, both and ranked, each on a route of its own; others can be loaded from the same directory."""
    arguments = [argument for module in kit.modules.values() for argument in ("--module", str(module.path))]
    routes = ["--route", "forgetful=plain", "--route", "org/other-model=both", "--route", "ranked=ranked"]
    tools = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    with serving(tmp_path_factory.mktemp("server"), kit, [*arguments, *routes, *tools]) as running:
        yield running
