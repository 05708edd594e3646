"""What can answer a request: the modules in the engine and the large model alone, with a count of who uses each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lethe_offsets.catalog import Catalog

if TYPE_CHECKING:
    from lethe_server.engine.service import LoadedModule

BASE = "base"  # reserved name of the large model alone, for admin keys


class Resident:
    """A module in the engine, or with ``loaded=None`` the large model alone.

    A lease is held by each HTTP request that was routed here and by each generation it started, because a client that
    disconnects ends the first before the engine has ended the second. closing: being deleted, takes no new request.
    """

    def __init__(self, loaded: LoadedModule | None) -> None:
        self.loaded = loaded
        self.closing = False
        self.num_requests = 0
        self._num_leases = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def ref(self) -> str:
        """``name@sha256:<hex>``, or ``base``."""
        return BASE if self.loaded is None else self.loaded.module.ref

    @property
    def label(self) -> str:
        """The module's name for metrics; ``none`` for the large model alone."""
        return "none" if self.loaded is None else self.loaded.module.name

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Keep the module in the engine within the block."""
        self._num_leases += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._num_leases -= 1
            if not self._num_leases:
                self._idle.set()

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
        return self._idle.is_set()


class Residents:
    """The residents by reference. One owner: the event loop's thread."""

    def __init__(self) -> None:
        self.base = Resident(None)
        self._catalog = Catalog()
        self._by_ref: dict[str, Resident] = {}

    def add(self, resident: Resident) -> None:
        if resident.loaded is None:
            raise ValueError("the large model alone is always resident")
        self._catalog.add(resident.loaded.module)
        self._by_ref[resident.ref] = resident

    def remove(self, resident: Resident) -> None:
        del self._by_ref[self._catalog.remove(resident.ref).ref]

    def find(self, ref: str) -> Resident | None:
        """The module with exactly this reference."""
        return self._by_ref.get(ref)

    def get(self, ref: str) -> Resident:
        """The module by name or reference, as ``Catalog.get``. Raises InvalidInput and ModuleNotFound like it."""
        return self._by_ref[self._catalog.get(ref).ref]

    def modules(self) -> list[Resident]:
        """All modules, sorted by reference."""
        return [self._by_ref[ref] for ref in self._catalog.refs()]
