from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from lethe_offsets.errors import InvalidInput
from lethe_server.auth import Caller, Keyring, Role, key_digest
from lethe_server.errors import AuthenticationNeeded, PermissionDenied
from lethe_server.keys_file import KeysFile

INFERENCE = ["/v1/chat/completions", "/v1/models", "/v1/models/a/b", "/tokenize", "/detokenize"]
ADMIN = ["/admin/modules", "/admin/modules/a@sha256:1", "/admin/routes/x/y", "/admin/nothing", "/admin", "/admin/"]
# Decoded, as an ASGI scope has them: what a proxy or a router could turn into an admin path.
ODD = ["//admin/modules", "/v1/../admin/modules", "/v1//../admin", "/./admin/routes", "/x/./y", "/v1\\..\\admin", "//"]
OPEN = ["/health", "/ready", "/version", "/docs", "/openapi.json", "/nothing", "/", "/nothing/"]
ANONYMOUS = Caller("anonymous", Role.ANONYMOUS)
CLIENT = Caller("api-1", Role.CLIENT)
MONITOR = Caller("prometheus", Role.MONITOR)
EVALUATOR = Caller("eve", Role.EVALUATOR)
ADMINISTRATOR = Caller("admin-1", Role.ADMIN)


def secrets(*keys: str) -> list[SecretStr]:
    return [SecretStr(key) for key in keys]


def keyring(api: str = "client", admin: str = "admin") -> Keyring:
    return Keyring(secrets(*filter(None, [api])), secrets(*filter(None, [admin])))


def with_file(path: Path, *entries: dict[str, object], api: str = "", admin: str = "") -> Keyring:
    """A keyring over a file, in which each entry's ``key`` is hashed."""
    hashed = [
        {"hash": f"sha256:{key_digest(str(entry['key'])).hex()}", **{k: v for k, v in entry.items() if k != "key"}}
        for entry in entries
    ]
    path.write_text(yaml.safe_dump({"keys": hashed}))
    path.chmod(0o600)
    return Keyring(secrets(*filter(None, [api])), secrets(*filter(None, [admin])), KeysFile(path))


@pytest.mark.parametrize(
    ("header", "role"),
    [
        (None, Role.ANONYMOUS),
        ("", Role.ANONYMOUS),
        ("Bearer", Role.ANONYMOUS),
        ("Bearer ", Role.ANONYMOUS),
        ("Bearer wrong", Role.ANONYMOUS),
        ("Bearer clien", Role.ANONYMOUS),
        ("Bearer client2", Role.ANONYMOUS),
        ("Basic client", Role.ANONYMOUS),
        ("client", Role.ANONYMOUS),
        ("Bearer clïent", Role.ANONYMOUS),
        (f"Bearer sha256:{key_digest('client').hex()}", Role.ANONYMOUS),
        ("Bearer client", Role.CLIENT),
        ("bearer  client ", Role.CLIENT),
        ("Bearer admin", Role.ADMIN),
    ],
)
def test_caller(header: str | None, role: Role) -> None:
    assert keyring().caller(header).role is role


def test_keys_of_the_command_line_have_names() -> None:
    made = Keyring(secrets("one", "two"), secrets("three"))
    assert [made.caller(f"Bearer {key}").name for key in ("one", "two", "three", "four")] == [
        "api-1",
        "api-2",
        "admin-1",
        "anonymous",
    ]


def test_no_key_is_kept_as_it_is() -> None:
    assert b"topsecret" not in repr(vars(Keyring(secrets("topsecret"), []))).encode()


@pytest.mark.parametrize("path", INFERENCE)
def test_inference_needs_a_key_once_there_is_one(path: str) -> None:
    with pytest.raises(AuthenticationNeeded):
        keyring().admit(path, ANONYMOUS)
    for caller in (CLIENT, EVALUATOR, ADMINISTRATOR):
        keyring().admit(path, caller)
    keyring(api="").admit(path, ANONYMOUS)


@pytest.mark.parametrize("path", [*ADMIN, *ODD])
def test_administration_needs_an_admin_key(path: str) -> None:
    for ring in (keyring(), keyring(api="")):
        with pytest.raises(AuthenticationNeeded):
            ring.admit(path, ANONYMOUS)
        for caller in (CLIENT, EVALUATOR):
            with pytest.raises(PermissionDenied, match="inference key"):
                ring.admit(path, caller)
        ring.admit(path, ADMINISTRATOR)


@pytest.mark.parametrize("path", ADMIN)
@pytest.mark.parametrize("caller", [ANONYMOUS, CLIENT])
def test_administration_is_shut_without_an_admin_key(path: str, caller: Caller) -> None:
    with pytest.raises(PermissionDenied, match="--admin-key"):
        keyring(admin="").admit(path, caller)


def test_metrics_name_modules_and_are_no_clients_business() -> None:
    with pytest.raises(AuthenticationNeeded, match="monitor"):
        keyring().admit("/metrics", ANONYMOUS)
    with pytest.raises(PermissionDenied, match="monitor"):
        keyring().admit("/metrics", CLIENT)
    for caller in (MONITOR, EVALUATOR, ADMINISTRATOR):
        keyring().admit("/metrics", caller)
    keyring(api="").admit("/metrics", ANONYMOUS)


@pytest.mark.parametrize("path", [*INFERENCE, *ADMIN])
def test_a_monitor_reads_metrics_and_nothing_else(path: str) -> None:
    for ring in (keyring(), keyring(api="")):
        with pytest.raises(PermissionDenied):
            ring.admit(path, MONITOR)


@pytest.mark.parametrize("path", OPEN)
def test_other_paths_are_open(path: str) -> None:
    keyring().admit(path, ANONYMOUS)


def test_what_roles_may() -> None:
    limited = Caller("shop", Role.CLIENT, frozenset({"a"}))
    assert [limited.may_use(name) for name in ("a", "b", "base")] == [True, False, False]
    assert CLIENT.may_use("b")
    assert [caller.may_measure for caller in (ANONYMOUS, CLIENT, EVALUATOR, ADMINISTRATOR)] == [
        False,
        False,
        True,
        True,
    ]
    assert [caller.is_admin for caller in (ANONYMOUS, CLIENT, EVALUATOR, ADMINISTRATOR)] == [False, False, False, True]


def test_bounds_on_log_probabilities(tmp_path: Path) -> None:
    ring = with_file(
        tmp_path / "keys.yaml",
        {"name": "shop", "role": "client", "key": "s"},
        {"name": "none", "role": "client", "key": "n", "max_logprobs": 0},
        {"name": "many", "role": "client", "key": "m", "max_logprobs": 19},
        {"name": "eve", "role": "evaluator", "key": "e"},
        {"name": "eva", "role": "evaluator", "key": "f", "max_logprobs": 7},
        admin="admin",
    )
    shown = {key: ring.caller(f"Bearer {key}").max_logprobs for key in ("s", "n", "m", "e", "f", "admin", "nobody")}
    assert shown == {"s": 5, "n": 0, "m": 19, "e": None, "f": 7, "admin": None, "nobody": 5}
    assert Keyring([], [], client_max_logprobs=2).caller(None).max_logprobs == 2


def test_a_file_gives_roles(tmp_path: Path) -> None:
    ring = with_file(
        tmp_path / "keys.yaml",
        {"name": "shop", "role": "client", "key": "s", "models": ["a", "org/b"]},
        {"name": "eve", "role": "evaluator", "key": "e"},
        {"name": "ops", "role": "admin", "key": "o"},
        api="given",
    )
    assert ring.caller("Bearer s") == Caller("shop", Role.CLIENT, frozenset({"a", "org/b"}), 5)
    assert ring.caller("Bearer e") == Caller("eve", Role.EVALUATOR)
    assert ring.caller("Bearer o") == Caller("ops", Role.ADMIN)
    assert ring.caller("Bearer given") == Caller("api-1", Role.CLIENT, None, 5)
    ring.admit("/admin/modules", ring.caller("Bearer o"))


def test_a_file_closes_inference_even_without_a_key_in_it(tmp_path: Path) -> None:
    ring = with_file(tmp_path / "keys.yaml")
    with pytest.raises(AuthenticationNeeded):
        ring.admit("/v1/models", ring.caller(None))


@pytest.mark.parametrize("key", ["given-client", "given-admin"])
def test_a_file_can_not_give_another_role_to_a_key_of_the_command_line(tmp_path: Path, key: str) -> None:
    entry: dict[str, object] = {"name": "ops", "role": "admin", "key": key}
    with pytest.raises(InvalidInput, match="a hash of its own"):
        with_file(tmp_path / "keys.yaml", entry, api="given-client", admin="given-admin")
