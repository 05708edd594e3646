"""Several engines behind one client of vLLM's: what is said to each of them.

Contacts with vLLM's internals of its own, as in ``death``: ``compat`` imports what builds models.
"""

from __future__ import annotations

import asyncio
from typing import Any

from lethe_server.engine.orphans import end_with_parent


def num_engines(client: Any) -> int:
    """vLLM's ``data_parallel_size``."""
    return int(client.vllm_config.parallel_config.data_parallel_size)


async def ask_workers(client: Any, method: str, arguments: tuple[Any, ...]) -> list[list[Any]]:
    """What the method of that name returns on every worker of each engine.

    vLLM's own ``collective_rpc`` asks all engines and passes on the answers of the first alone (0.32). 0.26 has no
    public call for all of them.
    """
    core, call = client.engine_core, ("collective_rpc", method, None, arguments, None)
    answers = (core._call_utility_async(*call, engine=engine) for engine in core.core_engines)
    return list(await asyncio.gather(*answers))


def end_coordinator_with_us() -> None:
    """See ``orphans``. vLLM loads no plugin in the process that shares requests out among engines (0.32)."""
    from vllm.v1.engine.coordinator import DPCoordinatorProc

    DPCoordinatorProc.run_coordinator = _coordinate  # type: ignore[assignment, method-assign]


def _coordinate(**settings: Any) -> None:
    """In that process, where vLLM's own is in its place."""
    from vllm.v1.engine.coordinator import DPCoordinatorProc

    end_with_parent()
    DPCoordinatorProc.run_coordinator(**settings)
