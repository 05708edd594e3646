"""The operator's commands as processes against a running server, and what the audit log has of it in the end."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from kit import Kit
from lethe_offsets.create import create_module
from lethe_server.operator.client import AdminClient, Refused
from server_process import ADMIN_KEY, CLIENT_KEY, LETHE, Server, serving

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def audit_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.jsonl"


@pytest.fixture(scope="module")
def server(kit: Kit, audit_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    modules = [argument for module in kit.modules.values() for argument in ("--module", str(module.path))]
    arguments = [*modules, "--route", "forgetful=plain", "--route", "other=both", "--audit-log", str(audit_log)]
    with serving(tmp_path_factory.mktemp("server"), kit, arguments) as running:
        yield running


@pytest.fixture(autouse=True)
def _as_it_was(server: Server, kit: Kit) -> Iterator[None]:
    """Each test begins with the route to ``plain``."""
    yield
    with server.http(ADMIN_KEY) as http:
        assert http.put("/admin/routes/forgetful", json={"module": kit.modules["plain"].ref}).is_success


def start(server: Server, *arguments: str, key: str = ADMIN_KEY) -> subprocess.Popen[str]:
    environment = {**os.environ, "LETHE_URL": server.url, "LETHE_ADMIN_KEY": key, "COLUMNS": "200"}
    pipe = subprocess.PIPE
    return subprocess.Popen([LETHE, *arguments], stdout=pipe, stderr=pipe, text=True, env=environment)


def run(server: Server, *arguments: str, code: int = 0, key: str = ADMIN_KEY) -> str:
    """What the command prints, once it has ended with ``code``; on stderr when that is not 0."""
    process = start(server, *arguments, key=key)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    if code:
        assert printed == ""
        assert len(errors.splitlines()) == 1, errors
    return errors if code else printed


def targets(answer: str) -> list[tuple[list[str], float]]:
    return [(target["modules"], target["weight"]) for target in json.loads(answer)["targets"]]


def test_modules_and_routes_as_tables_and_as_json(server: Server, kit: Kit) -> None:
    table = run(server, "modules")
    for module in kit.modules.values():
        assert f"{module.name}@{module.digest[:15]}" in table
    assert {each["ref"] for each in json.loads(run(server, "modules", "--json"))} == {
        module.ref for module in kit.modules.values()
    }
    assert "forgetful" in run(server, "routes")
    state = json.loads(run(server, "routes", "--json"))
    assert state["generation"] == state["observed_generation"]
    assert {route["model"] for route in state["routes"]} == {"forgetful", "other"}


def test_a_swap_and_its_rollback(server: Server, kit: Kit) -> None:
    ranked = kit.modules["ranked"].ref
    assert targets(run(server, "swap", "forgetful", "ranked", "--json")) == [([ranked], 1.0)]
    assert server.answered_by("forgetful") == ranked
    assert "plain@sha256" in run(server, "rollback", "forgetful")
    assert server.answered_by("forgetful") == kit.modules["plain"].ref
    assert targets(run(server, "rollback", "forgetful", "--json")) == [([ranked], 1.0)]


def test_a_canary_step_by_step(server: Server, kit: Kit) -> None:
    plain, ranked = kit.modules["plain"].ref, kit.modules["ranked"].ref
    assert targets(run(server, "swap", "forgetful", "ranked", "--canary", "5", "--json")) == [
        ([plain], 95.0),
        ([ranked], 5.0),
    ]
    assert "5.0%" in run(server, "routes")
    assert targets(run(server, "swap", "forgetful", ranked[:24], "--canary", "50", "--json")) == [
        ([plain], 50.0),
        ([ranked], 50.0),
    ]
    assert targets(run(server, "swap", "forgetful", "ranked", "--json")) == [([ranked], 1.0)]
    assert "nothing else" in run(server, "swap", "forgetful", "ranked", "--canary", "5", code=1)


def test_a_shadow_comes_and_goes(server: Server, kit: Kit) -> None:
    shadowed = json.loads(run(server, "swap", "forgetful", "ranked", "--shadow", "10", "--json"))
    assert shadowed["shadow"] == {"modules": [kit.modules["ranked"].ref], "share": 0.1}
    assert [target["modules"] for target in shadowed["targets"]] == [[kit.modules["plain"].ref]]
    assert "(shadow)" in run(server, "routes")
    assert json.loads(run(server, "swap", "forgetful", "ranked", "--shadow", "0", "--json"))["shadow"] is None


def test_modules_come_answer_together_and_go(server: Server, kit: Kit) -> None:
    folder = kit.modules["plain"].path.parent
    plus = tiny.random_adapter(kit.small, folder / "extra-plus", rank=4, seed=400)
    extra = create_module("extra", kit.small, plus=plus, out=folder / "extra")
    assert run(server, "modules", "add", str(extra.path), "--digest", extra.digest).strip() == extra.ref
    together = targets(run(server, "swap", "forgetful", "plain", "extra", "--json"))
    assert together == [(sorted([extra.ref, kit.modules["plain"].ref]), 1.0)]
    assert " + " in run(server, "routes")
    assert "forgetful" in run(server, "modules", "remove", "extra", code=1)
    run(server, "swap", "forgetful", "plain")
    run(server, "modules", "remove", "extra")
    assert "extra" in run(server, "modules", "remove", "extra", code=1)


def test_a_public_name_is_taken_away(server: Server) -> None:
    run(server, "swap", "org/short-lived", "both")
    run(server, "routes", "remove", "org/short-lived")
    assert "short-lived" not in run(server, "routes")
    assert "short-lived" in run(server, "routes", "remove", "org/short-lived", code=1)


def test_waiting_until_requests_under_way_have_ended(server: Server) -> None:
    """An answer that nobody reads, larger than any buffer on its way, stays under way."""
    body: dict[str, Any] = {"model": "forgetful", "prompt": "x", "n": 16, "logprobs": 5, "max_tokens": 250}
    body |= {"ignore_eos": True, "stream": True, "temperature": 1}
    with server.http() as http, http.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code == 200
        late = run(server, "swap", "forgetful", "ranked", "--wait", "--timeout", "1", code=1)
        assert "1 requests on plain@sha256" in late
        assert "the change itself is made" in late
        run(server, "rollback", "forgetful")
        waiting = start(server, "swap", "forgetful", "ranked", "--wait", "--json")
    printed, errors = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, errors
    assert json.loads(printed)["model"] == "forgetful"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["swap", "forgetful", "gone"], "gone"),
        (["swap", "forgetful", "plain@sha256:zz"], "accepted"),
        (["swap", "a b", "plain"], "model"),
        (["swap", "forgetful", "base"], "base"),
        (["rollback", "unknown"], "unknown"),
        (["modules", "add", "/etc"], "/etc"),
        (["swap", "unknown", "plain", "--canary", "5"], "nothing else"),
    ],
)
def test_what_the_server_refuses(server: Server, arguments: list[str], said: str) -> None:
    assert said in run(server, *arguments, code=1)


def test_keys_that_may_not(server: Server) -> None:
    assert "admin key" in run(server, "modules", key=CLIENT_KEY, code=1)
    assert "admin key" in run(server, "routes", key="wrong", code=1)


def test_a_change_of_what_someone_else_has_changed_meanwhile(server: Server) -> None:
    with AdminClient(server.url, ADMIN_KEY) as client:
        generation = client.state().generation
        client.put_route("forgetful", {"module": "ranked"}, generation)
        with pytest.raises(Refused) as refused:
            client.put_route("forgetful", {"module": "both"}, generation)
    assert refused.value.status == 412


def test_the_record_of_it_all(server: Server, kit: Kit, audit_log: Path) -> None:
    """The log holds what this and the tests above did, each intent with its result."""
    run(server, "swap", "forgetful", "ranked")
    run(server, "rollback", "forgetful")
    for key in (CLIENT_KEY, "wrong"):
        with server.http(key) as http:
            http.put("/admin/routes/forgetful", json={"module": "both"})
    with server.http(ADMIN_KEY) as http:
        first = http.get("/admin/audit", params={"limit": 3}).json()
        rest = http.get("/admin/audit", params={"after": 3, "limit": 1000}).json()
        for wrong in ({"after": -1}, {"limit": 0}, {"limit": 10**6}, {"after": "x"}):
            assert http.get("/admin/audit", params=wrong).status_code == 400
    on_disk = [json.loads(line) for line in audit_log.read_text().splitlines()]
    assert [*first["lines"], *rest["lines"]] == on_disk
    assert rest["head"] == on_disk[-1]["hash"]
    assert rest["last"] == len(on_disk)
    attempts = [line for line in on_disk if line["action"] == "admin.attempt"]
    assert {line["who"] for line in attempts} >= {"api-1", "anonymous"}
    checked = json.loads(run(server, "audit", "verify", str(audit_log), "--head", rest["head"], "--json"))
    assert (checked["problems"], checked["unfinished"]) == ([], [])
    told = json.loads(run(server, "audit", "report", str(audit_log), "--module", "plain", "--json"))["modules"][0]
    assert told["ref"] == kit.modules["plain"].ref
    assert told["active_on"] == ["forgetful"]
    began, *_, last = [period for period in told["periods"] if period["model"] == "forgetful"]
    assert (began["since_by"], began["until_by"], last["until"]) == ("server", "admin-1", None)
