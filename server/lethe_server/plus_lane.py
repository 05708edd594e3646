"""The plus lane's own model: one for all modules in the engine, replaced where what is declared needs another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lethe_offsets.errors import LetheError, ModuleIncompatible, SourceForbidden
from lethe_offsets.manifest import SmallModel
from lethe_offsets.module import Module
from lethe_offsets.small_model import SmallModelFacts
from lethe_server.catalog.prefixes import Allowlist
from lethe_server.errors import DrainTimeout
from lethe_server.library import Library
from lethe_server.routing import RouteTable
from lethe_server.state.declared import DeclaredState

if TYPE_CHECKING:
    from lethe_server.engine.service import OffsetEngine

log = logging.getLogger(__name__)


class PlusLane:
    """allowed: below which another model may lie; the one that the server was started with lies where it likes.

    error: why what is served can't be had, where the former model could not be put back.
    """

    def __init__(
        self, engine: OffsetEngine, library: Library, routes: RouteTable, allowed: Allowlist, drain_timeout_s: float
    ) -> None:
        self._engine = engine
        self._library = library
        self._routes = routes
        self._allowed = allowed
        self._drain_timeout_s = drain_timeout_s
        self.error: str | None = None
        self._known = {} if engine.plus is None else {engine.plus.digest: engine.plus.id}

    @property
    def model(self) -> SmallModelFacts | None:
        """What runs in it; None where both lanes run the small model."""
        return self._engine.plus

    def other(self, module: Module) -> SmallModel | None:
        """What the lane would have to run instead for ``module``, if that is all that it needs."""
        wanted, now = module.manifest.plus_model, self.model
        return None if wanted is None or now is None or wanted.digest == now.digest else wanted

    async def find(self, model: SmallModel) -> SmallModelFacts:
        """The model that a module was made with, as it lies on this machine's disk now.

        Raises SourceForbidden for a place that is not allowed, InvalidInput for a model that doesn't fit the small
        one, ModuleIncompatible when another one lies there.
        """
        place = self._known.get(model.digest) or self._allowed.check(model.id)
        if model.digest not in self._known and not isinstance(place, Path):
            raise SourceForbidden("plus_model", model.id, "a directory of this machine")
        found = await asyncio.to_thread(self._engine.small.read_plus, place)
        if found.digest != model.digest:
            raise ModuleIncompatible("plus_model", f"{model.id} ({model.digest})", f"what lies there, {found.digest}")
        return found

    @asynccontextmanager
    async def fit(self, state: DeclaredState) -> AsyncIterator[None]:
        """Within the block what ``state`` routes to fits the lane; from its end on, what is served then.

        Where that takes another model, requests for modules wait before they are routed; those under way end first.
        Raises as ``find``, ModuleIncompatible for routes of several models, and DrainTimeout; the lane is as before.
        """
        wanted = None if self.model is None else await asyncio.to_thread(self._wanted, state)
        if wanted is None:
            yield
            return
        found = await self.find(wanted)
        with self._routes.residents.paused():
            try:
                await self._replace(found)
                yield
            finally:
                served = await asyncio.to_thread(self._wanted, self._routes.state)
                if served is not None:
                    await self._put_back(served)

    async def _put_back(self, model: SmallModel) -> None:
        self.error = f"the plus lane lost {model.id}"
        try:
            await self._replace(await self.find(model))
        except LetheError as err:
            self.error = f"the plus lane lost {model.id}: {err}"
            log.error("%s; no module can answer until a route is pointed elsewhere", self.error)
            raise

    def _wanted(self, state: DeclaredState) -> SmallModel | None:
        """The model other than that in the lane which the routes of ``state`` need."""
        if self.model is None:
            return None
        refs = sorted(ref for ref, names in state.named().items() if names)
        models = {ref: made for ref in refs if (made := self._library.look(ref).manifest.plus_model) is not None}
        first = next(iter(models.values()), None)
        for ref, model in models.items():
            if first is not None and model.digest != first.digest:
                needs = f"{first.id} ({first.digest}), which {next(iter(models))} needs: all routes share one lane"
                raise ModuleIncompatible("plus_model", f"{model.id} ({model.digest}) of {ref}", needs)
        return None if first is None or first.digest == self.model.digest else first

    async def _replace(self, found: SmallModelFacts) -> None:
        left = await self._routes.residents.emptied(self._drain_timeout_s)
        if left:
            raise DrainTimeout(
                f"{left} requests are still being answered by modules after {self._drain_timeout_s:g} s; the plus lane "
                f"stays"
            )
        began = asyncio.get_running_loop().time()
        await self._engine.replace_plus(found)
        self._known[found.digest] = found.id
        self.error = None
        log.info("the plus lane runs %s after %.2f s", found.id, asyncio.get_running_loop().time() - began)
