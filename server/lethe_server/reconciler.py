"""What is served follows what is declared."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from lethe_offsets.errors import LetheError
from lethe_offsets.module import Module
from lethe_server.audit.auditor import Auditor, Change
from lethe_server.audit.log import SERVER
from lethe_server.audit.records import record
from lethe_server.errors import StateConflict, StateUnavailable
from lethe_server.library import Library
from lethe_server.metrics import Metrics
from lethe_server.plus_lane import PlusLane
from lethe_server.residents import Residents
from lethe_server.routing import RouteTable
from lethe_server.state.declared import DeclaredState, Modules
from lethe_server.state.first import check_protected
from lethe_server.state.store import StateStore

WATCH_S = 0.25
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0  # of a state that could not be served
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """On which a server serves what is declared."""

    allow_unprotected: bool = False
    drain_timeout_s: float = 60.0


class Reconciler:
    """Brings what is declared into service. Requests never wait for it.

    lock: held by whoever changes or follows the declared state. declared: the state read or written last. error: why
    that, or the file it comes from, is not what is being served.
    """

    def __init__(
        self,
        store: StateStore,
        library: Library,
        residents: Residents,
        routes: RouteTable,
        metrics: Metrics,
        lane: PlusLane,
        audit: Auditor,
        terms: Terms,
    ) -> None:
        self.lock = asyncio.Lock()
        self.declared = DeclaredState()
        self.error: str | None = None
        self.started = False
        self.terms = terms
        self.lane = lane
        self._store = store
        self._library = library
        self._audit = audit
        self._residents = residents
        self._routes = routes
        self._metrics = metrics
        self._unread = False  # what lies in the store could not be read
        self._retry_at = 0.0
        self._retry_s = FIRST_RETRY_S
        self._retiring: dict[str, asyncio.Task[None]] = {}

    @property
    def served(self) -> DeclaredState:
        """The state that requests are routed by; its generation is the observed one."""
        return self._routes.state

    @property
    def caught_up(self) -> bool:
        """Whether what is declared is what is served; a person may change it and leave its generation."""
        return self.started and self.declared is self.served

    @property
    def draining(self) -> set[str]:
        """Modules that are to leave once their requests have ended."""
        return self._retiring.keys() | self._residents.closing

    async def start(self, first: DeclaredState, modules: Sequence[Module]) -> DeclaredState:
        """Serve what is declared; where nothing is, declare ``first``, whose catalog is ``modules``; not an empty one.

        Raises what a module that can't be served raises, StateInvalid and StateUnavailable.
        """
        async with self.lock:
            declared = await asyncio.to_thread(self._store.read)
            if declared is None and first.generation:
                for module in modules:
                    await asyncio.to_thread(self._store.put_module, module)
                try:
                    await asyncio.to_thread(self._store.write, first)
                    declared = first
                except StateConflict:  # another server was first
                    declared = await asyncio.to_thread(self._store.read)
            elif declared is not None and first.generation and declared.routes != first.routes:
                log.warning("the state directory declares other routes than the command line, and is what is served")
            self.declared = declared or first
            await self._serve("state.start", None)
            self.started = True
        return self.declared

    async def latest(self) -> DeclaredState:
        """What is declared now; for who holds the lock. Raises StateInvalid and StateUnavailable."""
        if self._unread or await asyncio.to_thread(self._store.changed):
            self._unread = True
            declared = await asyncio.to_thread(self._store.read)
            if declared is None:
                raise StateUnavailable("nothing is declared any more; the last state is still served")
            self.declared = declared
            self._unread = False
        return self.declared

    async def _serve(self, action: str, before: DeclaredState | None) -> None:
        """Serve what is declared, as a change that no administrator of this server made."""
        state = self.declared
        async with (
            self._audit.change(SERVER, action, f"generation {state.generation}") as noted,
            self.lane.fit(state),
        ):
            await self.prepare(state)
            self.note(noted, before, state)
            self.flip(state)

    def note(self, noted: Change, before: DeclaredState | None, after: DeclaredState) -> None:
        """For the record, what turned ``before`` into ``after``."""
        earlier = DeclaredState() if before is None else before
        changed = [spec for name, spec in after.routes.items() if earlier.routes.get(name) != spec]
        named = {ref for spec in changed for ref in spec.refs()} | (after.catalog.keys() - earlier.catalog.keys())
        record(noted, before, after, filter(None, map(self._library.known, sorted(named))))

    async def prepare(self, state: DeclaredState) -> None:
        """Have in the engine what the routes of ``state`` name and those served now don't, as far as there are places.

        What is left is brought in when it is first asked for. Raises what a module that can't be served raises.
        """
        check_protected(state, self.terms.allow_unprotected)
        served = {modules for spec in self.served.routes.values() for modules in spec.groups()}
        wanted = [modules for _, spec in sorted(state.routes.items()) for modules in spec.groups()]
        coming = [modules for modules in dict.fromkeys(wanted) if modules and modules not in served]
        for modules in coming[: self._residents.limit]:
            await self.try_out(modules)

    async def try_out(self, modules: Modules) -> None:
        """Have ``modules`` in the engine, probed."""
        resident = self._residents.get(modules)
        with resident.lease():
            await self._residents.bring_in(resident)

    def flip(self, state: DeclaredState) -> None:
        """Serve a prepared state, and let go of modules that it doesn't declare once their requests have ended."""
        gone = self.served.catalog.keys() - state.catalog.keys()
        self._routes.flip(state)
        self.declared = state
        self.error = None
        log.info("generation %d is served", state.generation)
        for ref in gone:
            self._retiring[ref] = asyncio.create_task(self._retire(ref))

    async def retired(self, ref: str) -> None:
        """Wait until a module that is declared no more has left the engine."""
        if ref in self._retiring:
            await asyncio.shield(self._retiring[ref])

    async def watch(self) -> None:
        """Follow the changes of others, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            async with self.lock:
                await self.follow()

    async def follow(self) -> None:
        """Serve what is declared now. What can't be served is told, tried again, and changes nothing meanwhile."""
        now = asyncio.get_running_loop().time()
        try:
            changed = await asyncio.to_thread(self._store.changed)
            behind = self._unread or self.declared is not self.served
            if not changed and behind and self.error is not None and now < self._retry_at:
                return
            if changed or behind:
                await self.latest()
                await self._serve("state.follow", self.served)
        except Exception as err:
            told = str(err) if isinstance(err, LetheError) else f"{type(err).__name__}: {err}"
            if told != self.error:
                log.error("what is declared can't be served, generation %d is: %s", self.served.generation, told)
            self.error = told
            self._retry_at = now + self._retry_s
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
        else:
            self.error, self._retry_s = None, FIRST_RETRY_S

    async def close(self) -> None:
        """Wait for what is being let go of, as long as a drain may take."""
        if self._retiring:
            await asyncio.wait(self._retiring.values(), timeout=self.terms.drain_timeout_s)

    async def _retire(self, ref: str) -> None:
        try:
            while left := await self._residents.drained(ref, self.terms.drain_timeout_s):
                log.warning("module %s is declared no more and still answers %d requests", ref, left)
            if ref in self.served.catalog:  # declared again meanwhile
                return
            for modules in {resident.modules for resident in self._residents.using(ref)}:
                await self._residents.put_out(modules)
                self._residents.failures.pop(modules, None)
            self._metrics.keep(self.served.catalog.keys())
        finally:
            if self._retiring.get(ref) is asyncio.current_task():
                del self._retiring[ref]
