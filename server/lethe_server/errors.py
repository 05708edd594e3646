"""What can go wrong in the server, without a word about HTTP (``http_errors`` knows the status of each).

LetheError
├── InvalidInput
│   └── FieldRefused          a field of a request that this server doesn't honour
├── AuthenticationNeeded      no key, or one that isn't known
├── PermissionDenied          a key that may not do this
├── ModelNotFound             a public name without a route
├── ModuleBusy                a module that a route names, or one that is being deleted
├── DrainTimeout              requests of a module did not end in time
├── GenerationFailed          the engine ended a request with an error: its offset is unsound
├── UnroutedRequest           something tried to reach the engine past the routes
├── NotReady                  the server can't answer yet, or no longer
├── EngineDied                the engine ended while the server ran
├── BadOption                 a command line that vLLM's parser refuses
└── StartupFailed             the server can't start
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


class GenerationFailed(LetheError):
    """The engine ended a request with an error: its module or rule is unknown, or the offset isn't finite."""


class UnroutedRequest(LetheError):
    """A request for the engine that no route admitted. A fault of this server, never of the client."""


class NotReady(LetheError):
    """The server can't answer yet, or no longer."""


class EngineDied(LetheError):
    """The engine ended while the server ran."""


class BadOption(LetheError):
    """A command line that vLLM's parser refuses."""


class StartupFailed(LetheError):
    """The server can't start."""
