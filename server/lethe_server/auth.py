"""Who is calling, and what that caller may do."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from enum import Enum

from pydantic import SecretStr

from lethe_server.errors import AuthenticationNeeded, PermissionDenied

INFERENCE_PATHS = ("/tokenize", "/detokenize")
INFERENCE_PREFIX = "/v1/"
ADMIN_PREFIX = "/admin/"


class Caller(Enum):
    """A caller, by the key that it shows."""

    ANONYMOUS = "anonymous"
    CLIENT = "client"
    ADMIN = "admin"


class Keyring:
    """The keys of a server. Without API keys the inference paths are open; the admin paths never are."""

    def __init__(self, api_keys: Iterable[SecretStr], admin_keys: Iterable[SecretStr]) -> None:
        self._api_keys = [key.get_secret_value().encode() for key in api_keys]
        self._admin_keys = [key.get_secret_value().encode() for key in admin_keys]

    def caller(self, authorization: str | None) -> Caller:
        """The caller who sent this ``Authorization`` header."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return Caller.ANONYMOUS
        shown = token.strip().encode()
        if _any_equal(shown, self._admin_keys):
            return Caller.ADMIN
        return Caller.CLIENT if _any_equal(shown, self._api_keys) else Caller.ANONYMOUS

    def admit(self, path: str, caller: Caller) -> None:
        """Raises AuthenticationNeeded or PermissionDenied unless ``caller`` may use ``path``."""
        if path.startswith(ADMIN_PREFIX):
            self._admit_admin(caller)
        elif self._api_keys and caller is Caller.ANONYMOUS and _is_inference(path):
            raise AuthenticationNeeded("this path needs a key: send the header 'Authorization: Bearer <key>'")

    def _admit_admin(self, caller: Caller) -> None:
        if not self._admin_keys:
            raise PermissionDenied("no admin key is configured; start the server with --admin-key to use these paths")
        if caller is Caller.CLIENT:
            raise PermissionDenied("this path needs an admin key; the key sent is an inference key")
        if caller is Caller.ANONYMOUS:
            raise AuthenticationNeeded("this path needs an admin key: send the header 'Authorization: Bearer <key>'")


def _is_inference(path: str) -> bool:
    return path.startswith(INFERENCE_PREFIX) or path in INFERENCE_PATHS


def _any_equal(shown: bytes, keys: list[bytes]) -> bool:
    """Compares with every key, each in constant time, so that the time taken tells nothing."""
    return sum(hmac.compare_digest(shown, key) for key in keys) > 0
