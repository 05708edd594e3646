"""Who is calling, and what that caller may do."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import SecretStr

from lethe_server.errors import AuthenticationNeeded, PermissionDenied

if TYPE_CHECKING:
    from lethe_server.keys_file import KeysFile

INFERENCE_PATHS = ("/tokenize", "/detokenize")
INFERENCE_PREFIX = "/v1/"
ADMIN_PATH = "/admin"
METRICS_PATH = "/metrics"  # names modules and routes, which clients must not learn
CLIENT_MAX_LOGPROBS = 5


class Role(StrEnum):
    """What a key is for."""

    ANONYMOUS = "anonymous"
    CLIENT = "client"
    MONITOR = "monitor"
    EVALUATOR = "evaluator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller, by the key that it shows.

    name: the key's. models: public names it may use, None for all. max_logprobs: log-probabilities it may ask for at
    each token, None for as many as the engine gives.
    """

    name: str
    role: Role
    models: frozenset[str] | None = None
    max_logprobs: int | None = None

    def may_use(self, model: str) -> bool:
        """Whether the public name ``model`` is one of the caller's; it need not exist."""
        return self.models is None or model in self.models

    @property
    def may_measure(self) -> bool:
        """Whether the caller may choose a module by reference, the large model alone, and the strength."""
        return self.role in (Role.EVALUATOR, Role.ADMIN)

    @property
    def is_admin(self) -> bool:
        return self.role is Role.ADMIN


@dataclass(frozen=True, slots=True)
class Key:
    """A key that the server knows. digest: SHA-256 of the key; the key itself is kept nowhere."""

    digest: bytes
    caller: Caller


def key_digest(key: str) -> bytes:
    """SHA-256 of a key. No salt and no stretching: keys are random, not passwords."""
    return hashlib.sha256(key.encode()).digest()


class Keyring:
    """The keys of a server, of its command line and of its keys file.

    Without keys for inference and without a file the inference paths and the metrics are open; the admin paths never
    are.
    client_max_logprobs: for callers that have no bound of their own and are neither evaluator nor admin.
    """

    def __init__(
        self,
        api_keys: Iterable[SecretStr],
        admin_keys: Iterable[SecretStr],
        keys_file: KeysFile | None = None,
        client_max_logprobs: int = CLIENT_MAX_LOGPROBS,
    ) -> None:
        self._given = [*_named(api_keys, "api", Role.CLIENT), *_named(admin_keys, "admin", Role.ADMIN)]
        self._file = keys_file
        self._client_max_logprobs = client_max_logprobs
        if keys_file is not None:
            keys_file.open(self._given)

    def caller(self, authorization: str | None) -> Caller:
        """The caller who sent this ``Authorization`` header."""
        scheme, _, token = (authorization or "").partition(" ")
        shown = key_digest(token.strip()) if scheme.lower() == "bearer" else b""
        found = _matching(shown, self._keys())
        return self._capped(Caller(Role.ANONYMOUS.value, Role.ANONYMOUS) if found is None else found)

    def admit(self, path: str, caller: Caller) -> None:
        """Raises AuthenticationNeeded or PermissionDenied unless ``caller`` may use ``path``.

        path: the ASGI scope's, which is the one that the router matches; nothing is asked of a Host header.
        """
        if is_administration(path):
            self._admit_admin(caller)
        elif path == METRICS_PATH:
            self._admit_monitor(caller)
        elif is_inference(path):
            self._admit_inference(caller)

    @property
    def needs_key(self) -> bool:
        """Whether inference needs a key: a file without any closes it rather than opening it."""
        return self._file is not None or any(key.caller.role is Role.CLIENT for key in self._given)

    @property
    def has_admin(self) -> bool:
        return any(key.caller.is_admin for key in self._keys())

    @property
    def error(self) -> str | None:
        """Why the keys file, as it is now, is not the one in force."""
        return None if self._file is None else self._file.error

    def _keys(self) -> Sequence[Key]:
        return self._given if self._file is None else [*self._given, *self._file.current()]

    def _capped(self, caller: Caller) -> Caller:
        if caller.may_measure or caller.max_logprobs is not None:
            return caller
        return replace(caller, max_logprobs=self._client_max_logprobs)

    def _admit_inference(self, caller: Caller) -> None:
        if self.needs_key and caller.role is Role.ANONYMOUS:
            raise AuthenticationNeeded("this path needs a key: send the header 'Authorization: Bearer <key>'")
        if caller.role is Role.MONITOR:
            raise PermissionDenied(f"the key sent is for {METRICS_PATH} only")

    def _admit_monitor(self, caller: Caller) -> None:
        if self.needs_key and not (caller.may_measure or caller.role is Role.MONITOR):
            if caller.role is Role.ANONYMOUS:
                raise AuthenticationNeeded("this path needs a key of role monitor, evaluator or admin")
            raise PermissionDenied("this path needs a key of role monitor, evaluator or admin")

    def _admit_admin(self, caller: Caller) -> None:
        if caller.is_admin:
            return
        if not self.has_admin:
            raise PermissionDenied("no admin key is configured; start the server with --admin-key to use these paths")
        if caller.role is Role.ANONYMOUS:
            raise AuthenticationNeeded("this path needs an admin key: send the header 'Authorization: Bearer <key>'")
        raise PermissionDenied("this path needs an admin key; the key sent is an inference key")


def _named(keys: Iterable[SecretStr], prefix: str, role: Role) -> list[Key]:
    return [
        Key(key_digest(key.get_secret_value()), Caller(f"{prefix}-{number}", role))
        for number, key in enumerate(keys, start=1)
    ]


def _matching(shown: bytes, keys: Iterable[Key]) -> Caller | None:
    """Compares with every key, each in constant time, so that the time taken tells nothing."""
    found = None
    for key in keys:
        if hmac.compare_digest(shown, key.digest):
            found = key.caller
    return found


def is_administration(path: str) -> bool:
    """An admin path, or one that some layer could rewrite into one: empty, ``.`` and ``..`` segments, backslashes."""
    inner = path.removeprefix("/").removesuffix("/").split("/")
    odd = "\\" in path or any(part in (".", "..") for part in inner) or ("" in inner and path != "/")
    return odd or path == ADMIN_PATH or path.startswith(f"{ADMIN_PATH}/")


def is_inference(path: str) -> bool:
    return path.startswith(INFERENCE_PREFIX) or path in INFERENCE_PATHS
