"""A client can't learn which modules or models there are: answers about what is hidden and what is not there are equal.

Each hidden name is compared with one of the same length that means nothing, byte for byte.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from kit import Kit
from lethe_server.auth import key_digest
from server_process import ADMIN_KEY, CLIENT_KEY, Server, serving

pytestmark = pytest.mark.engine
LIMITED, EVALUATOR, TIGHT, GENEROUS = "limited-key", "evaluator-key", "tight-key", "generous-key"
KEYS: dict[str, dict[str, Any]] = {
    LIMITED: {"name": "shop", "role": "client", "models": ["forgetful", "not-there-yet"]},
    EVALUATOR: {"name": "eve", "role": "evaluator"},
    TIGHT: {"name": "tight", "role": "client", "max_logprobs": 0},
    GENEROUS: {"name": "generous", "role": "client", "max_logprobs": 8},
}
TEXT: dict[str, Any] = {"prompt": "Where was Marta born?", "max_tokens": 4, "temperature": 0}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0}
ANSWER: dict[str, Any] = {"input": "hello", "max_output_tokens": 16, "temperature": 0}
BODIES = {
    "/v1/completions": TEXT,
    "/v1/chat/completions": CHAT,
    "/v1/responses": ANSWER,
    "/tokenize": {"prompt": "x"},
    "/detokenize": {"tokens": [5]},
}
WITH_LOGPROBS = {
    "completions": ("/v1/completions", TEXT, lambda n: {"logprobs": n}),
    "prompt": ("/v1/completions", TEXT, lambda n: {"prompt_logprobs": n}),
    "chat": ("/v1/chat/completions", CHAT, lambda n: {"logprobs": True, "top_logprobs": n}),
    "chat prompt": ("/v1/chat/completions", CHAT, lambda n: {"prompt_logprobs": n}),
    "responses": (
        "/v1/responses",
        ANSWER,
        lambda n: {"top_logprobs": n, "include": ["message.output_text.logprobs"]},
    ),
}

UNEQUAL = ("date", "x-request-id")  # of any two answers


@pytest.fixture(scope="module")
def server(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    entries = [{**entry, "hash": f"sha256:{key_digest(key).hex()}"} for key, entry in KEYS.items()]
    keys = folder / "keys.yaml"
    keys.write_text(yaml.safe_dump({"keys": entries}))
    keys.chmod(0o600)
    modules = [argument for module in kit.modules.values() for argument in ("--module", str(module.path))]
    routes = ["--route", "forgetful=plain", "--route", "org/other-model=both", "--route", "ranked=ranked"]
    with serving(folder, kit, [*modules, *routes, "--keys-file", str(keys)]) as running:
        yield running


@pytest.fixture(scope="module")
def hidden(kit: Kit) -> list[str]:
    """Names of models and modules that are there, and that a client of one model must not find out."""
    refs = [module.ref for module in kit.modules.values()]
    return ["org/other-model", "ranked", "plain", "both", "base", *refs, *(ref[:22] for ref in refs)]


def meaningless(name: str) -> str:
    """Another name of the same length and form."""
    rng = random.Random(name)
    return "".join(rng.choice(string.ascii_lowercase) if letter.isalpha() else letter for letter in name)


def shown(response: httpx.Response, name: str) -> tuple[int, bytes, dict[str, str]]:
    """All that a client gets, but for the time and the name that it sent."""
    headers = {key: value for key, value in response.headers.items() if key not in UNEQUAL}
    return response.status_code, response.content.replace(name.encode(), b"<name>"), headers


def ask(server: Server, path: str, name: str, key: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    with server.http(key) as http:
        return shown(http.post(path, json={**BODIES[path], "model": name}, headers=headers), name)


@pytest.mark.parametrize("path", BODIES)
def test_names_in_a_request(server: Server, hidden: list[str], path: str) -> None:
    for name in hidden:
        answer = ask(server, path, name, LIMITED)
        assert answer == ask(server, path, meaningless(name), LIMITED), name
        assert answer[0] == 404
        assert b"forgetful" in answer[1]  # what it may use is told
        for other in hidden:
            assert other.encode() not in answer[1].replace(b"<name>", b""), (name, other)


def test_names_of_models(server: Server, hidden: list[str]) -> None:
    with server.http(LIMITED) as http:
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["forgetful"]
        assert http.get("/v1/models/forgetful").status_code == 200
        for name in [*hidden, "not-there-yet"]:
            other = meaningless(name)
            answer = shown(http.get(f"/v1/models/{name}"), name)
            assert answer == shown(http.get(f"/v1/models/{other}"), other)
            assert answer[0] == 404
    with server.http(CLIENT_KEY) as http:
        listed = [model["id"] for model in http.get("/v1/models").json()["data"]]
    assert listed == ["forgetful", "org/other-model", "ranked"]


@pytest.mark.parametrize("key", [None, "wrong-key", LIMITED, EVALUATOR])
def test_administration_tells_nothing(server: Server, hidden: list[str], key: str | None) -> None:
    with server.http(key) as http:
        for name in hidden:
            other = meaningless(name)
            for prefix in ("/admin/modules", "/admin/routes", f"{server.url}//admin/modules"):
                for method in ("GET", "PUT", "DELETE"):
                    answer = shown(http.request(method, f"{prefix}/{name}", json={}), name)
                    assert answer == shown(http.request(method, f"{prefix}/{other}", json={}), other)
                    assert answer[0] == (403 if key in (LIMITED, EVALUATOR) else 401)


def test_no_key_gives_no_names(server: Server, hidden: list[str]) -> None:
    for name in [*hidden, "forgetful"]:
        assert ask(server, "/v1/completions", name, "wrong-key") == ask(
            server, "/v1/completions", meaningless(name), "wrong-key"
        )


@pytest.mark.parametrize("key", [LIMITED, CLIENT_KEY])
def test_a_client_can_not_choose_a_strength(server: Server, hidden: list[str], key: str) -> None:
    for path in BODIES:
        refused = ask(server, path, "forgetful", key, **{"X-Lethe-Strength": "0.5"})
        assert refused[0] == 400
        assert b"X-Lethe-Strength" in refused[1]
        for name in hidden:
            assert ask(server, path, name, key, **{"X-Lethe-Strength": "0.5"}) == refused


@pytest.mark.parametrize("key", [EVALUATOR, ADMIN_KEY])
def test_who_measures_chooses_strength_and_module(server: Server, kit: Kit, key: str) -> None:
    def logprobs(model: str, **headers: str) -> list[float]:
        body = {**TEXT, "model": model, "logprobs": 20, "prompt_logprobs": 20}
        with server.http(key) as http:
            response = http.post("/v1/completions", json=body, headers=headers)
        assert response.status_code == 200, response.text
        choice = response.json()["choices"][0]
        numbers: list[float] = choice["logprobs"]["token_logprobs"]
        return [*numbers, *(each["logprob"] for entry in choice["prompt_logprobs"][1:] for each in entry.values())]

    large, whole = logprobs("base"), logprobs("forgetful")
    assert logprobs("forgetful", **{"X-Lethe-Strength": "0"}) == pytest.approx(large, abs=1e-4)
    assert logprobs("forgetful", **{"X-Lethe-Strength": "1.0"}) == pytest.approx(whole, abs=1e-4)
    assert logprobs(kit.modules["plain"].ref) == pytest.approx(whole, abs=1e-4)
    half = logprobs("forgetful", **{"X-Lethe-Strength": "0.5"})
    assert half != pytest.approx(large, abs=1e-3)
    assert half != pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize("strength", ["1000", "-1000", "nan", "strong", ""])
def test_a_strength_that_can_not_be(server: Server, strength: str) -> None:
    status, body, _ = ask(server, "/v1/completions", "forgetful", EVALUATOR, **{"X-Lethe-Strength": strength})
    assert status == 400, body


def test_who_measures_is_told_which_module_answered(server: Server, kit: Kit) -> None:
    for key in (EVALUATOR, ADMIN_KEY):
        assert ask(server, "/v1/completions", "forgetful", key)[2]["x-lethe-module"] == kit.modules["plain"].ref
    for key in (LIMITED, CLIENT_KEY):
        headers = ask(server, "/v1/completions", "forgetful", key)[2]
        assert not [name for name in headers if "lethe" in name]


def test_an_evaluator_is_no_administrator(server: Server) -> None:
    with server.http(EVALUATOR) as http:
        for path in ("/admin/modules", "/admin/routes", "/admin/audit", "/admin/state"):
            assert http.get(path).status_code == 403


@pytest.mark.parametrize("kind", WITH_LOGPROBS)
@pytest.mark.parametrize(
    ("key", "bound"), [(TIGHT, 0), (LIMITED, 5), (CLIENT_KEY, 5), (GENEROUS, 8), (EVALUATOR, 20), (ADMIN_KEY, 20)]
)
def test_bounds_on_log_probabilities(server: Server, kind: str, key: str, bound: int) -> None:
    path, body, asking = WITH_LOGPROBS[kind]
    with server.http(key) as http:
        at = http.post(path, json={**body, "model": "forgetful", **asking(bound)})
        beyond = http.post(path, json={**body, "model": "forgetful", **asking(bound + 1)})
        everything = http.post(path, json={**body, "model": "forgetful", **asking(-1)})
    assert at.status_code == 200, at.text
    assert beyond.status_code == 400, beyond.text
    assert everything.status_code == 400, everything.text


def test_no_way_around_the_bound(server: Server) -> None:
    for field, value in (("logprob_token_ids", list(range(3, 12))), ("logprobs", "20"), ("prompt_logprobs", 20.0)):
        with server.http(LIMITED) as http:
            response = http.post("/v1/completions", json={**TEXT, "model": "forgetful", "logprobs": 1, field: value})
        assert response.status_code == 400, field
        assert response.json()["error"]["param"] == field
