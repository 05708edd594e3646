from __future__ import annotations

import pytest
from pydantic import SecretStr

from lethe_server.auth import Caller, Keyring
from lethe_server.errors import AuthenticationNeeded, PermissionDenied

INFERENCE = ["/v1/chat/completions", "/v1/models", "/v1/models/a/b", "/tokenize", "/detokenize"]
ADMIN = ["/admin/modules", "/admin/modules/a@sha256:1", "/admin/routes/x/y"]
OPEN = ["/health", "/ready", "/metrics", "/version", "/docs", "/openapi.json", "/nothing"]


def keyring(api: str = "client", admin: str = "admin") -> Keyring:
    return Keyring([SecretStr(api)] if api else [], [SecretStr(admin)] if admin else [])


@pytest.mark.parametrize(
    ("header", "caller"),
    [
        (None, Caller.ANONYMOUS),
        ("", Caller.ANONYMOUS),
        ("Bearer", Caller.ANONYMOUS),
        ("Bearer ", Caller.ANONYMOUS),
        ("Bearer wrong", Caller.ANONYMOUS),
        ("Bearer clien", Caller.ANONYMOUS),
        ("Bearer client2", Caller.ANONYMOUS),
        ("Basic client", Caller.ANONYMOUS),
        ("client", Caller.ANONYMOUS),
        ("Bearer clïent", Caller.ANONYMOUS),
        ("Bearer client", Caller.CLIENT),
        ("bearer  client ", Caller.CLIENT),
        ("Bearer admin", Caller.ADMIN),
    ],
)
def test_caller(header: str | None, caller: Caller) -> None:
    assert keyring().caller(header) is caller


@pytest.mark.parametrize("path", INFERENCE)
def test_inference_needs_a_key_once_there_is_one(path: str) -> None:
    with pytest.raises(AuthenticationNeeded):
        keyring().admit(path, Caller.ANONYMOUS)
    keyring().admit(path, Caller.CLIENT)
    keyring().admit(path, Caller.ADMIN)
    keyring(api="").admit(path, Caller.ANONYMOUS)


@pytest.mark.parametrize("path", ADMIN)
def test_administration_needs_an_admin_key(path: str) -> None:
    with pytest.raises(AuthenticationNeeded):
        keyring().admit(path, Caller.ANONYMOUS)
    with pytest.raises(PermissionDenied, match="inference key"):
        keyring().admit(path, Caller.CLIENT)
    keyring().admit(path, Caller.ADMIN)


@pytest.mark.parametrize("path", ADMIN)
@pytest.mark.parametrize("caller", [Caller.ANONYMOUS, Caller.CLIENT])
def test_administration_is_shut_without_an_admin_key(path: str, caller: Caller) -> None:
    with pytest.raises(PermissionDenied, match="--admin-key"):
        keyring(admin="").admit(path, caller)


@pytest.mark.parametrize("path", OPEN)
def test_other_paths_are_open(path: str) -> None:
    keyring().admit(path, Caller.ANONYMOUS)
