"""Modules come and go while the server answers: load, flip, drain, unload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lethe_offsets.catalog import check_source
from lethe_offsets.errors import ModuleNotFound
from lethe_offsets.module import Module
from lethe_server.errors import DrainTimeout, ModuleBusy, NotReady
from lethe_server.metrics import Metrics
from lethe_server.residents import Resident, Residents
from lethe_server.routing import RouteTable, check_public_name

if TYPE_CHECKING:
    from lethe_server.engine.service import OffsetEngine

log = logging.getLogger(__name__)


class ModuleService:
    """The only one that changes which modules are resident and which route stands for which.

    Changes run one at a time; requests never wait for one. sources: directories from which modules may be loaded.
    """

    def __init__(
        self,
        engine: OffsetEngine,
        residents: Residents,
        routes: RouteTable,
        metrics: Metrics,
        sources: Sequence[Path],
        drain_timeout_s: float,
    ) -> None:
        self._engine = engine
        self._residents = residents
        self._routes = routes
        self._metrics = metrics
        self._sources = sources
        self._drain_timeout_s = drain_timeout_s
        self._changing = asyncio.Lock()
        self._started = False

    async def start(self, modules: Sequence[Module], routes: Mapping[str, str | None]) -> None:
        """Load and probe ``modules``, then open ``routes`` (public name -> reference, None for the large model alone).

        Raises what the engine raises for a module that can't be loaded.
        """
        async with self._changing:
            for module in modules:
                await self._bring_in(module)
            for name, ref in routes.items():
                self._routes.point(name, self._residents.base if ref is None else self._residents.get(ref))
            self._started = True

    async def check_alive(self) -> None:
        """Raises NotReady when the engine died."""
        try:
            await self._engine.check()
        except Exception as err:
            raise NotReady(f"the engine died: {err}") from err

    async def check_ready(self) -> None:
        """Raises NotReady with the reason. A module is resident only once its probe in the engine has passed."""
        if not self._started:
            raise NotReady("modules are still being loaded")
        await self.check_alive()

    async def load(self, source: str) -> tuple[Resident, bool]:
        """Load the module at ``source``; the second value is False when it was here already.

        Raises SourceForbidden, ModuleInvalid, ModuleIncompatible, ProbeFailed, and ModuleBusy while the same module is
        being deleted.
        """
        path = check_source(source, self._sources)
        async with self._changing:
            module = await asyncio.to_thread(Module.open, path)
            resident = self._residents.find(module.ref)
            if resident is None:
                return await self._bring_in(module), True
            if resident.closing:
                raise ModuleBusy(f"module {module.ref} is being deleted; try again once it is gone")
            return resident, False

    async def _bring_in(self, module: Module) -> Resident:
        found = self._residents.find(module.ref)
        if found is not None:  # the same directory given twice at start
            return found
        loaded = await self._engine.load(module)
        resident = Resident(loaded)
        self._residents.add(resident)
        self._metrics.loaded(loaded.seconds)
        log.info("module %s loaded and probed in %.2f s", module.ref, loaded.seconds)
        return resident

    async def flip(self, model: str, ref: str) -> tuple[Resident, Resident | None]:
        """Let the public name ``model`` stand for the module ``ref``; returns it and what the name stood for.

        Requests under way end on what they began with. Raises InvalidInput for a name or a reference that can't be,
        ModuleNotFound, and ModuleBusy for a module that is being deleted.
        """
        async with self._changing:
            with self._metrics.swap():
                check_public_name(model)
                target = self._residents.get(ref)
                if target.closing:
                    raise ModuleBusy(f"module {target.ref} is being deleted")
                previous = self._routes.point(model, target)
        log.info("route %s: %s -> %s", model, previous.ref if previous else None, target.ref)
        return target, previous

    async def remove(self, ref: str) -> None:
        """Unload a module that no route names, once its requests have ended.

        Raises ModuleNotFound, ModuleBusy, and DrainTimeout when requests are still running after the drain timeout;
        the module then stays as it was.
        """
        async with self._changing:
            resident = self._residents.get(ref)
            named = self._routes.naming(resident)
            if named:
                raise ModuleBusy(f"module {resident.ref} answers for {', '.join(named)}; point these elsewhere first")
            if resident.closing:
                raise ModuleBusy(f"module {resident.ref} is already being deleted")
            resident.closing = True
        try:
            await self._unload_idle(resident)
        finally:
            resident.closing = False

    async def _unload_idle(self, resident: Resident) -> None:
        """Without the lock while requests end, so that other changes needn't wait for them."""
        if not await resident.drained(self._drain_timeout_s):
            raise DrainTimeout(
                f"module {resident.ref} still answers {resident.num_requests} requests after "
                f"{self._drain_timeout_s:g} s; it stays loaded"
            )
        async with self._changing:
            loaded = resident.loaded
            if loaded is None:
                raise ModuleNotFound(resident.ref, [])
            self._residents.remove(resident)
            await self._engine.unload(loaded)
        if all(other.label != resident.label for other in self._residents.modules()):
            self._metrics.forget(resident.label)
        log.info("module %s unloaded", resident.ref)
