"""What is said of an engine that died, and that nothing waits for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from lethe_server.engine.death import cause_of_death
from lethe_server.engine.service import OffsetEngine, Prepared
from lethe_server.engine.spec import EngineSpec
from lethe_server.errors import EngineDied


class Silent:
    """vLLM's client, of an engine that answers no call, as one does that was killed. ended: its processes."""

    def __init__(self, **ended: int) -> None:
        self.errored = False
        manager = SimpleNamespace(finished_procs=lambda: ended)
        self.engine_core = SimpleNamespace(
            resources=SimpleNamespace(engine_manager=manager), core_engines=[b"0"], _call_utility_async=self._call
        )

    async def _call(self, *call: Any, engine: bytes) -> list[Any]:
        return await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ({"EngineCore": -9}, "EngineCore was ended by SIGKILL, as by a kernel that is out of memory"),
        ({"EngineCore": -11}, "EngineCore was ended by SIGSEGV"),
        ({"EngineCore": 1}, "its last lines in the log say why"),
        ({}, "its last lines in the log say why"),
    ],
)
def test_the_cause(ended: dict[str, int], said: str) -> None:
    assert cause_of_death(Silent(**ended)) == said


def test_engines_without_such_a_manager() -> None:
    client: Any = Silent()
    client.engine_core.resources.engine_manager = None
    assert cause_of_death(client) == "its last lines in the log say why"


async def test_a_call_that_is_never_answered_ends_with_the_engine() -> None:
    client: Any = Silent(EngineCore=-9)
    small: Any = None
    engine = OffsetEngine(EngineSpec("large", "small", "public"), client, Prepared({}, small, None))
    reading = asyncio.create_task(engine.read())
    dying = asyncio.create_task(engine.death())
    await engine.check()
    assert not (await asyncio.wait({reading, dying}, timeout=0.1))[0]
    client.errored = True
    with pytest.raises(EngineDied, match="SIGKILL"):
        await reading
    with pytest.raises(EngineDied, match="SIGKILL"):
        await engine.check()
    assert "SIGKILL" in str(await dying)
