"""The one HTTP request that the running task serves: who calls, and which resident answers all of it."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any

from lethe_offsets.errors import InvalidInput, LetheError
from lethe_server.auth import Caller
from lethe_server.errors import ModelNotFound, NotReady, UnroutedRequest
from lethe_server.residents import Resident
from lethe_server.routing import Choice, RouteTable
from lethe_server.state.declared import Shadow

log = logging.getLogger(__name__)


class Outcome(Enum):
    """How a request that reached the engine ended. looped: ended because it ran in a loop."""

    FINISHED = "finished"
    LOOPED = "looped"
    ERROR = "error"
    ABORTED = "aborted"


class RequestScope:
    """One HTTP request, from its first byte to the last byte of its answer.

    The first model name it resolves is pinned: whatever the routes do meanwhile, every prompt, choice, beam and
    streamed token of the request is answered by the same resident. shadow: what its answer is to be compared with.
    arrived: as ``time.time``. prompt_tokens, output_tokens: of all its generations so far. measured: its time to the
    first token has been counted.
    """

    def __init__(self, caller: Caller, routes: RouteTable) -> None:
        self.caller = caller
        self.model: str | None = None
        self.resident: Resident | None = None
        self.shadow: Shadow | None = None
        self.closed = False
        self.arrived = time.time()
        self.measured = False
        self.prompt_tokens = 0
        self.output_tokens = 0
        self._routes = routes
        self._held = ExitStack()
        self._num_running = 0
        self._outcomes: set[Outcome] = set()

    async def pin(self, model: str, sticky_key: str | None = None, strength: float | None = None) -> Resident:
        """Route the request and have what answers it in the engine.

        sticky_key: what keeps a client on one of several targets. strength: instead of the modules' own.

        Raises ModelNotFound, NotReady when what answers can't be brought into the engine (for a caller who may measure
        the reason itself), and UnroutedRequest when the request was routed under another name.
        """
        key = secrets.token_hex(16) if sticky_key is None else sticky_key
        while self.resident is None:
            state = self._routes.state
            try:
                await self._route(model, key, strength)
            except LetheError as err:
                if self._routes.state is state:  # else what could not be had may be routed no more: look again
                    raise self._told(err) from err
        if model != self.model:
            raise UnroutedRequest(f"a request for {self.model!r} asked for {model!r} as well")
        return self.resident

    async def _route(self, model: str, key: str, strength: float | None) -> None:
        residents = self._routes.residents
        while (choice := self._choose(model, key)).modules and residents.is_paused:
            await residents.resumed()
        if strength is not None and not choice.modules:
            raise InvalidInput("strength", strength, "none for the large model alone: it has no offset")
        resident = residents.get(choice.modules, strength)
        with ExitStack() as held:
            held.enter_context(resident.request())
            await residents.bring_in(resident)
            self._held.enter_context(held.pop_all())
        drawn = choice.shadow is not None and strength is None and random.random() < choice.shadow.share
        self.model, self.resident, self.shadow = model, resident, choice.shadow if drawn else None

    def _choose(self, model: str, key: str) -> Choice:
        """Raises ModelNotFound."""
        choice = self._routes.resolve(model, key) if self.caller.may_use(model) else None
        if choice is None and self.caller.may_measure:
            choice = self._routes.resolve_ref(model)
        if choice is None:
            raise ModelNotFound(model, filter(self.caller.may_use, self._routes.names()))
        return choice

    def _told(self, error: LetheError) -> LetheError:
        """An error as this caller may see it: clients must not learn which modules exist."""
        if isinstance(error, ModelNotFound) or self.caller.may_measure:
            return error
        log.error("a request could not be answered: %s", error)
        return NotReady("this model can't answer now; try again later")

    @contextmanager
    def generation(self) -> Iterator[None]:
        """One request to the engine within the block; how the block ends counts for the outcome."""
        self._num_running += 1
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self._outcomes.add(Outcome.ABORTED)
            raise
        except BaseException:
            self._outcomes.add(Outcome.ERROR)
            raise
        else:
            self._outcomes.add(Outcome.FINISHED)
        finally:
            self._num_running -= 1

    def loops(self) -> None:
        """A generation was ended because it ran in a loop."""
        self._outcomes.add(Outcome.LOOPED)

    @property
    def outcome(self) -> Outcome | None:
        """The worst end among the request's generations; None if it never reached the engine."""
        if Outcome.ERROR in self._outcomes:
            return Outcome.ERROR
        if Outcome.ABORTED in self._outcomes or self._num_running:
            return Outcome.ABORTED
        if Outcome.LOOPED in self._outcomes:
            return Outcome.LOOPED
        return Outcome.FINISHED if self._outcomes else None

    def close(self) -> None:
        """Release the resident; no generation can start any more."""
        self.closed = True
        self._held.close()


_current: ContextVar[RequestScope | None] = ContextVar("lethe_request", default=None)


@contextmanager
def entered(scope: RequestScope) -> Iterator[RequestScope]:
    """Make ``scope`` the current one within the block, for tasks started there as well; then close it."""
    token = _current.set(scope)
    try:
        yield scope
    finally:
        scope.close()
        _current.reset(token)


def current() -> RequestScope:
    """The current scope. Raises UnroutedRequest outside of any, or when it has been closed."""
    scope = _current.get()
    if scope is None or scope.closed:
        raise UnroutedRequest("nothing may reach the engine outside of a routed request")
    return scope


def admitted(lora_request: Any) -> tuple[RequestScope, Resident]:
    """The current scope and its resident, once ``lora_request`` (vLLM's) is the one of that resident.

    Raises UnroutedRequest otherwise.
    """
    scope = current()
    if scope.resident is None:
        raise UnroutedRequest("the request was not routed to a module")
    loaded = scope.resident.loaded
    expected = None if loaded is None else (scope.model, loaded.adapter_id, loaded.adapter_path)
    actual = (
        None
        if lora_request is None
        else (
            lora_request.lora_name,
            lora_request.lora_int_id,
            lora_request.lora_path,
        )
    )
    if actual != expected:
        raise UnroutedRequest(f"the request was routed to {scope.resident.ref}, the engine was asked for {actual}")
    return scope, scope.resident
