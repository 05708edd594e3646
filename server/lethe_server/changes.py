"""Changes of what is declared, by this server's administrators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from lethe_offsets.errors import LetheError
from lethe_offsets.module import Module
from lethe_server.audit.auditor import Auditor, Change
from lethe_server.catalog.fetch import Fetcher
from lethe_server.errors import DrainTimeout, ModuleBusy, StateConflict
from lethe_server.metrics import Metrics
from lethe_server.reconciler import Reconciler
from lethe_server.residents import Residents
from lethe_server.state.declared import DeclaredState, RouteSpec, Source
from lethe_server.state.store import StateStore

MAX_ATTEMPTS = 10  # to be first with a change, among servers that share a state
T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """Who wants a change, and of which generation, if that matters."""

    who: str
    expected: int | None = None


@dataclass(frozen=True)
class Changed:
    """What a change found and what it left. subject: the full reference or the public name that it was about."""

    subject: str
    before: DeclaredState
    after: DeclaredState


class Changes:
    """Makes changes, one at a time: proved in the engine, then written, then served. Each is recorded.

    A change that began is brought to its end even when whoever asked for it has gone. All raise StateConflict when the
    generation is not the expected one, and AuditUnavailable when the change can't be recorded; then nothing is changed.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        store: StateStore,
        fetcher: Fetcher,
        residents: Residents,
        metrics: Metrics,
        audit: Auditor,
    ) -> None:
        self._reconciler = reconciler
        self._store = store
        self._fetcher = fetcher
        self._residents = residents
        self._metrics = metrics
        self._audit = audit
        self._running: set[asyncio.Task[Any]] = set()

    async def add_module(self, order: Order, source: str, digest: str | None = None) -> Changed:
        """Declare the module at ``source``, once it has shown in the engine that it acts; no route changes.

        Raises SourceForbidden, SourceUnavailable, ModuleInvalid, ModuleIncompatible, ProbeFailed, EngineFull, and
        ModuleBusy while the same module is being deleted.
        """
        return await self._finish(self._add(order, source, digest))

    async def remove_module(self, order: Order, ref: str) -> Changed:
        """Take a module that no route names out of the engine and the catalog, once its requests have ended.

        Raises ModuleNotFound, ModuleBusy, and DrainTimeout when requests are still running after the drain timeout; the
        module then stays as it was.
        """
        return await self._finish(self._remove(order, ref))

    async def point(self, order: Order, model: str, make: Callable[[DeclaredState], RouteSpec]) -> Changed:
        """Let a public name stand for what ``make`` gives; requests under way end on what they began with.

        Raises InvalidInput for a name that can't be, ModuleNotFound, what a module that can't be served raises, and
        ModuleBusy for a module that is being deleted.
        """
        return await self._change_route(order, "route.put", model, lambda state: state.with_route(model, make(state)))

    async def delete_route(self, order: Order, model: str) -> Changed:
        """Raises ModelNotFound."""
        return await self._change_route(order, "route.delete", model, lambda state: state.without_route(model))

    async def roll_back(self, order: Order, model: str) -> Changed:
        """Raises as ``DeclaredState.rolled_back`` and ``point``."""
        return await self._change_route(order, "route.rollback", model, lambda state: state.rolled_back(model))

    async def close(self) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=self._reconciler.terms.drain_timeout_s)

    async def _finish(self, change: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(change)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _change_route(
        self, order: Order, action: str, model: str, make: Callable[[DeclaredState], DeclaredState]
    ) -> Changed:
        async def change() -> Changed:
            with self._metrics.swap():
                async with self._audit.change(order.who, action, model) as noted:
                    return await self._declare(order, model, make, noted)

        return await self._finish(change())

    async def _add(self, order: Order, source: str, digest: str | None) -> Changed:
        async with self._audit.change(order.who, "module.add", source) as noted:
            async with self._reconciler.lock:
                await self._expected(order)
            module = await asyncio.to_thread(self._fetcher.fetch, source, digest)
            if module.ref in self._residents.closing:
                raise ModuleBusy(f"module {module.ref} is being deleted; try again once it is gone")
            await asyncio.to_thread(self._store.put_module, module)
            try:
                await self._try_out(module)
                declared = Source(ref=module.ref, source=source)
                return await self._declare(order, module.ref, lambda state: state.with_module(declared), noted)
            except LetheError:
                if module.ref not in self._reconciler.declared.catalog:
                    await self._residents.put_out((module.ref,))
                await asyncio.to_thread(self._store.drop_module, module.ref)
                raise

    async def _try_out(self, module: Module) -> None:
        """A module whose plus model is another one than the engine's is probed when a route is to name it."""
        if (other := self._reconciler.lane.other(module)) is None:
            await self._reconciler.try_out((module.ref,))
        else:
            await self._reconciler.lane.find(other)

    async def _remove(self, order: Order, ref: str) -> Changed:
        async with self._audit.change(order.who, "module.remove", ref) as noted:
            async with self._reconciler.lock:
                state = await self._expected(order)
                full = state.resolve(ref)
                state.without_module(full)
                if full in self._residents.closing:
                    raise ModuleBusy(f"module {full} is already being deleted")
                self._residents.closing.add(full)
            try:
                await self._drain(full)
                changed = await self._declare(order, full, lambda state: state.without_module(full), noted)
                await self._reconciler.retired(full)
            finally:
                self._residents.closing.discard(full)
            await asyncio.to_thread(self._store.drop_module, full)
            return changed

    async def _drain(self, ref: str) -> None:
        timeout_s = self._reconciler.terms.drain_timeout_s
        left = await self._residents.drained(ref, timeout_s)
        if left:
            raise DrainTimeout(f"module {ref} still answers {left} requests after {timeout_s:g} s; it stays")

    async def _declare(
        self, order: Order, subject: str, make: Callable[[DeclaredState], DeclaredState], noted: Change
    ) -> Changed:
        """Raises StateConflict when others were first every time, or once if a generation was expected."""
        async with self._reconciler.lock:
            for attempt in range(MAX_ATTEMPTS):
                before = await self._expected(order)
                after = make(before)
                if after is before:
                    self._reconciler.note(noted, self._reconciler.served, after)
                    break
                async with self._reconciler.lane.fit(after):
                    await self._reconciler.prepare(after)
                    self._reconciler.note(noted, self._reconciler.served, after)
                    try:
                        await asyncio.to_thread(self._store.write, after)
                    except StateConflict:
                        if attempt + 1 == MAX_ATTEMPTS:
                            raise
                        continue
                    self._reconciler.flip(after)
                break
            return Changed(subject, before, after)

    async def _expected(self, order: Order) -> DeclaredState:
        state = await self._reconciler.latest()
        if order.expected not in (None, state.generation):
            raise StateConflict(f"generation {order.expected} was expected, {state.generation} is declared")
        return state
