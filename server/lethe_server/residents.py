"""What can answer a request: modules in the engine and the large model alone, with a count of who uses each."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from lethe_server.errors import EngineFull, ModuleBusy
from lethe_server.names import BASE
from lethe_server.state.declared import Modules

if TYPE_CHECKING:
    from lethe_server.engine.loaded import LoadedModule

log = logging.getLogger(__name__)


class Loader(Protocol):
    """Brings modules into the engine."""

    async def load(self, modules: Modules, strength: float | None) -> LoadedModule: ...

    async def unload(self, loaded: LoadedModule) -> None: ...


class Resident:
    """Modules that answer together, at a strength (None: their own), in the engine or on their way; or the large model.

    A lease is held by each HTTP request that was routed here and by each generation it started, because a client that
    disconnects ends the first before the engine has ended the second. While one is held the modules stay.
    """

    def __init__(
        self,
        modules: Modules,
        strength: float | None = None,
        loaded: LoadedModule | None = None,
        released: Callable[[Resident], None] | None = None,
    ) -> None:
        self.modules = modules
        self.strength = strength
        self.loaded = loaded
        self.num_requests = 0
        self.work: asyncio.Task[Exception | None] | None = None  # loading or unloading
        self.leaving = False
        self._num_leases = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._released = released

    @property
    def ref(self) -> str:
        """``name@sha256:<hex>`` of what answers, ``base`` for the large model alone."""
        return "+".join(self.modules) or BASE if self.loaded is None else self.loaded.ref

    @property
    def label(self) -> str:
        """The modules' names for metrics; ``none`` for the large model alone."""
        return label(self.modules)

    @property
    def idle(self) -> bool:
        """Whether nobody holds a lease."""
        return not self._num_leases

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Keep the modules in the engine within the block."""
        self._num_leases += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._num_leases -= 1
            if not self._num_leases:
                self._idle.set()
                if self._released is not None:
                    self._released(self)

    @contextmanager
    def request(self) -> Iterator[None]:
        """A lease that counts as one HTTP request."""
        self.num_requests += 1
        try:
            with self.lease():
                yield
        finally:
            self.num_requests -= 1

    async def drained(self, timeout_s: float) -> bool:
        """Wait until no lease is held; False when that takes longer than ``timeout_s``."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        return self.idle


def label(modules: Modules) -> str:
    return "+".join(ref.partition("@")[0] for ref in modules) or "none"


def made_of(label: str, names: Set[str]) -> bool:
    """Whether every module of a label is among ``names``; the large model alone has none."""
    return label == "none" or set(label.split("+")) <= names


class Residents:
    """At most ``limit`` residents in the engine; the one unused for longest makes room for another.

    wait_s: how long to wait for room while all are in use. closing: references of modules that are being deleted.
    failures: why the last load failed, where it did. num_evictions: how many made room. One owner: the event loop's
    thread.
    """

    def __init__(self, loader: Loader, limit: int = 64, wait_s: float = 30.0) -> None:
        self.base = Resident(())
        self.limit = limit
        self.closing: set[str] = set()
        self.failures: dict[Modules, Exception] = {}
        self.num_evictions = 0
        self._loader = loader
        self._wait_s = wait_s
        self._known: dict[tuple[Modules, float | None], Resident] = {}
        self._places: set[Resident] = set()  # loaded, loading or unloading
        self._used: dict[Resident, int] = {}  # when each was last released, as a count
        self._count = itertools.count()
        self._room = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within the block whoever routes requests lets those for modules wait."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    @property
    def is_paused(self) -> bool:
        return not self._open.is_set()

    async def resumed(self) -> None:
        await self._open.wait()

    def get(self, modules: Modules, strength: float | None = None) -> Resident:
        """What answers with ``modules``; take a lease of it before anything is awaited, then ``bring_in``.

        Raises ModuleBusy for a module that is being deleted.
        """
        if not modules:
            return self.base
        if closing := self.closing.intersection(modules):
            raise ModuleBusy(f"module {min(closing)} is being deleted")
        key = (modules, strength)
        if key not in self._known:
            self._known[key] = Resident(modules, strength, released=self._tidy)
        return self._known[key]

    async def bring_in(self, resident: Resident) -> LoadedModule | None:
        """Have a resident, of which the caller holds a lease, in the engine. Callers at one time share one load.

        Raises what the loader raises, and EngineFull when no place got free in time.
        """
        while resident.loaded is None and resident.modules:
            if resident.work is None:
                resident.work = asyncio.create_task(self._load(resident))
            error = await asyncio.shield(resident.work)
            if error is not None:
                raise error
        return resident.loaded

    async def put_out(self, modules: Modules) -> None:
        """Take every idle variant of ``modules`` out of the engine, once what is going on with it has ended."""
        for resident in self.present():
            while resident.modules == modules and resident.idle and resident in self._places:
                await asyncio.shield(resident.work or self._evict(resident))

    async def emptied(self, timeout_s: float) -> int:
        """Take all modules out of the engine once their requests have ended; the number of those that have not."""
        while self._known:
            if left := await self.drained(None, timeout_s):
                return left
            for modules in {each.modules for each in self._known.values()}:
                await self.put_out(modules)
        return 0

    async def drained(self, ref: str | None, timeout_s: float) -> int:
        """Wait until nobody uses the module ``ref``, or any; the number of requests that do after ``timeout_s``."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while busy := [each for each in self._known.values() if ref in (None, *each.modules) and not each.idle]:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or not await busy[0].drained(left):
                return sum(max(each.num_requests, 1) for each in busy if not each.idle)
        return 0

    def known(self) -> list[Resident]:
        """All, the large model alone included, that hold a place in the engine or are being asked for."""
        return [self.base, *self._known.values()]

    def present(self) -> list[Resident]:
        """Those that hold a place in the engine, sorted by reference and strength."""
        return sorted(self._places, key=lambda each: (each.modules, each.strength or 0.0))

    def using(self, ref: str) -> list[Resident]:
        """Those in which the module ``ref`` takes part, in the engine or not yet."""
        return [each for each in self._known.values() if ref in each.modules]

    def num_requests(self, modules: Modules) -> int:
        """HTTP requests being answered by ``modules``, at any strength."""
        if not modules:
            return self.base.num_requests
        return sum(each.num_requests for each in self._known.values() if each.modules == modules)

    async def _load(self, resident: Resident) -> Exception | None:
        try:
            await self._make_room()
            self._places.add(resident)
            resident.loaded = await self._loader.load(resident.modules, resident.strength)
            self.failures.pop(resident.modules, None)
            return None
        except Exception as err:  # for every waiter
            self._places.discard(resident)
            if resident.strength is None and not isinstance(err, EngineFull):
                self.failures[resident.modules] = err
            return err
        finally:
            resident.work = None
            self._used[resident] = next(self._count)
            self._tidy(resident)

    async def _make_room(self) -> None:
        deadline = asyncio.get_running_loop().time() + self._wait_s
        while len(self._places) >= self.limit:
            idle = [each for each in self._places if each.idle and each.loaded is not None]
            if idle:
                self.num_evictions += 1
                await self._evict(min(idle, key=self._used.__getitem__))
                continue
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), deadline - asyncio.get_running_loop().time())
            except TimeoutError:
                raise EngineFull(
                    f"all {self.limit} places for modules in the engine are in use; more with --max-resident-modules"
                ) from None

    def _evict(self, resident: Resident) -> asyncio.Task[Exception | None]:
        """From now on the resident is not loaded; one who wants it waits for its end and loads it again."""
        loaded, resident.loaded = resident.loaded, None
        if loaded is None:
            raise ValueError(f"{resident.ref} is not in the engine")
        resident.leaving = True
        resident.work = asyncio.create_task(self._unload(resident, loaded))
        return resident.work

    async def _unload(self, resident: Resident, loaded: LoadedModule) -> Exception | None:
        try:
            await self._loader.unload(loaded)
            return None
        except Exception as err:
            log.exception("%s could not be unloaded", loaded.ref)
            return err
        finally:
            resident.work, resident.leaving = None, False
            self._places.discard(resident)
            self._tidy(resident)

    def _tidy(self, resident: Resident) -> None:
        """After a release, a load or an unload: there may be room, and what is nowhere and unused is forgotten."""
        self._room.set()
        if not resident.idle:
            return
        self._used[resident] = next(self._count)
        if resident not in self._places and resident.work is None:
            self._known.pop((resident.modules, resident.strength), None)
            self._used.pop(resident, None)
