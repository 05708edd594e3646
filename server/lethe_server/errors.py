"""What can go wrong in the server, without a word about HTTP (``http_errors`` knows the status of each).

LetheError
├── InvalidInput
│   └── FieldRefused          a field of a request that this server doesn't honour
├── AuthenticationNeeded      no key, or one that isn't known
├── PermissionDenied          a key that may not do this
├── ModelNotFound             a public name without a route
├── ModuleBusy                a module that a route names, or one that is being deleted
├── DrainTimeout              requests of a module did not end in time
├── EngineFull                every place for a module in the engine is in use
├── StateConflict             what is declared changed meanwhile: another generation than the expected one
├── StateInvalid              what is declared can't be read
├── StateUnavailable          what is declared can't be reached or written
├── AuditUnavailable          the audit log can't be written, so nothing may be changed
├── NotRecorded               no audit log is kept
├── GenerationFailed          the engine ended a request with an error: its offset is unsound
├── UnroutedRequest           something tried to reach the engine past the routes
├── NotReady                  the server can't answer yet, or no longer
├── EngineDied                the engine ended while the server ran
├── BadOption                 a command line that vLLM's parser refuses
├── StartupFailed             the server can't start
└── SourceUnavailable         a source from which no module can be fetched
"""

from __future__ import annotations

from collections.abc import Iterable

from lethe_offsets.errors import InvalidInput, LetheError


class FieldRefused(InvalidInput):
    """A field of a request that this server doesn't know or doesn't honour."""


class AuthenticationNeeded(LetheError):
    """No key, or one that isn't known."""


class PermissionDenied(LetheError):
    """The caller is known and may not do this."""


class ModelNotFound(LetheError):
    """A public model name without a route."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"model {name!r} does not exist; known: {', '.join(known) or 'none'}")
        self.field = "model"
        self.name = name


class ModuleBusy(LetheError):
    """A module that can't be changed now: a route names it, or it is being deleted."""


class DrainTimeout(LetheError):
    """Requests of a module that is to be deleted did not end in time; the module stays."""


class EngineFull(LetheError):
    """Every place for a module in the engine was in use for too long; worth trying again."""


class AuditUnavailable(LetheError):
    """The audit log can't be written, so nothing may be changed."""


class NotRecorded(LetheError):
    """No audit log is kept, so there is nothing to read."""

    def __init__(self) -> None:
        super().__init__("no audit log is configured; start the server with --audit-log FILE")


class GenerationFailed(LetheError):
    """The engine ended a request with an error: its module or rule is unknown, or the offset isn't finite."""


class UnroutedRequest(LetheError):
    """A request for the engine that no route admitted. A fault of this server, never of the client."""


class NotReady(LetheError):
    """The server can't answer yet, or no longer."""


class EngineDied(LetheError):
    """The engine ended while the server ran, which ends with it. cause: how its process ended, if that is known."""

    def __init__(self, cause: str = "") -> None:
        super().__init__(f"the engine died{f': {cause}' if cause else ', and this server ends'}")


class BadOption(LetheError):
    """A command line that vLLM's parser refuses."""


class StartupFailed(LetheError):
    """The server can't start."""


class StateInvalid(LetheError):
    """A file of the declared state that is none: a person has to mend it."""

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(f"{file} is no declared state: {problem}")
        self.file = file
        self.problem = problem


class StateConflict(LetheError):
    """What is declared is of another generation than the expected one: someone else has changed it."""


class StateUnavailable(LetheError):
    """The declared state can't be reached, read or written."""


class SourceUnavailable(LetheError):
    """A source that may be used and from which no module can be fetched."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"no module can be fetched from {source!r}: {reason}")
        self.source = source
