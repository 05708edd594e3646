"""Bad requests for inference: each a clear error in OpenAI's shape, and a server that goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from server_process import Server

pytestmark = pytest.mark.engine
TEXT: dict[str, Any] = {"model": "forgetful", "prompt": "The capital of France", "max_tokens": 4, "temperature": 0}
CHAT: dict[str, Any] = {"model": "forgetful", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
ANSWER: dict[str, Any] = {"model": "forgetful", "input": "hello", "max_output_tokens": 16}
PATHS = {"/v1/completions": TEXT, "/v1/chat/completions": CHAT, "/v1/responses": ANSWER}
JSON = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def _goes_on(server: Server) -> Iterator[None]:
    yield
    assert server.post("/v1/completions", TEXT)["choices"][0]["text"]


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == status
    assert error["message"]
    assert "Traceback" not in error["message"]
    return error


def refused(server: Server, path: str, body: Any, status: int = 400) -> dict[str, Any]:
    with server.http() as http:
        return error_of(http.post(path, json=body), status)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("model", ["unknown", "base", "plain", "plain@sha256:00000000", "../plain", "large"])
def test_unknown_model(server: Server, path: str, model: str) -> None:
    assert refused(server, path, {**PATHS[path], "model": model}, 404)["param"] == "model"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("model", [None, "", 5, ["forgetful"]])
def test_no_model(server: Server, path: str, model: Any) -> None:
    assert refused(server, path, {**PATHS[path], "model": model})["param"] == "model"
    without = {field: value for field, value in PATHS[path].items() if field != "model"}
    assert refused(server, path, without)["param"] == "model"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("no_such_field", 1),
        ("lora_request", {"lora_name": "x"}),
        ("logits_processors", ["x"]),
        ("vllm_xargs", {"lethe": 1}),
        ("kv_transfer_params", {"do_remote_prefill": True}),
        ("priority", 1),
        ("background", True),
        ("store", True),
        ("strength", 0),
        ("prompt_embeds", "AAAA"),
        ("watermarking", True),
    ],
)
def test_fields_that_are_not_honoured(server: Server, path: str, field: str, value: Any) -> None:
    assert refused(server, path, {**PATHS[path], field: value})["param"] == field


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("/v1/completions", {"max_tokens": 10**9}),
        ("/v1/chat/completions", {"max_tokens": 10**9}),
        ("/v1/chat/completions", {"max_completion_tokens": 10**9}),
        ("/v1/responses", {"max_output_tokens": 10**9}),
        ("/v1/completions", {"max_tokens": -1}),
        ("/v1/completions", {"max_tokens": 10**30}),
        ("/v1/completions", {"prompt": ""}),
        ("/v1/completions", {"prompt": []}),
        ("/v1/completions", {"prompt": [[]]}),
        ("/v1/completions", {"prompt": None}),
        ("/v1/completions", {"prompt": ["fine", ""]}),
        ("/v1/completions", {"prompt": "too long " * 300}),
        ("/v1/completions", {"prompt": [10**6]}),
        ("/v1/completions", {"prompt": {"a": 1}}),
        ("/v1/chat/completions", {"messages": []}),
        ("/v1/chat/completions", {"messages": "hello"}),
        ("/v1/chat/completions", {"chat_template": "{{ 1 }}"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        ("/v1/responses", {"input": []}),
        ("/v1/responses", {"previous_response_id": "resp_1"}),
        ("/v1/completions", {"n": 0}),
        ("/v1/completions", {"temperature": -1}),
        ("/v1/completions", {"temperature": "warm"}),
        ("/v1/completions", {"temperature": "nan"}),
        ("/v1/completions", {"top_p": 2}),
        ("/v1/completions", {"logprobs": 10**6}),
        ("/v1/completions", {"logit_bias": {"1000000": 1}}),
        ("/v1/completions", {"stop": ["x"] * 1000}),
        ("/v1/completions", {"structured_outputs": {"regex": "("}}),
        ("/v1/completions", {"response_format": {"type": "json_schema"}}),
        ("/v1/completions", {"stream_options": {"include_usage": True}}),
        ("/v1/completions", {"suffix": "x"}),
        ("/v1/completions", {"use_beam_search": True, "stream": True}),
        ("/v1/chat/completions", {"tools": []}),
        ("/tokenize", {"model": "forgetful"}),
        ("/tokenize", {"model": "forgetful", "prompt": "x", "messages": []}),
        ("/detokenize", {"model": "forgetful", "tokens": ["x"]}),
    ],
)
def test_values_that_can_not_be(server: Server, path: str, changes: dict[str, Any]) -> None:
    assert refused(server, path, {**PATHS.get(path, {}), **changes})["type"] == "BadRequestError"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "content", [b"{", b"", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b'{"n": ' + b"9" * 5000 + b"}"]
)
def test_malformed_json(server: Server, path: str, content: bytes) -> None:
    with server.http() as http:
        error_of(http.post(path, content=content, headers=JSON), 400)


def test_numbers_that_json_lacks(server: Server) -> None:
    for number in (b"NaN", b"Infinity", b"1e999"):
        content = b'{"model": "forgetful", "prompt": "a", "temperature": ' + number + b"}"
        with server.http() as http:
            error_of(http.post("/v1/completions", content=content, headers=JSON), 400)


def test_other_media_types(server: Server) -> None:
    with server.http() as http:
        error_of(http.post("/v1/completions", content=b"{}", headers={"content-type": "text/plain"}), 400)
        error_of(http.post("/v1/completions", data={"model": "forgetful"}), 400)


def test_bodies_that_are_too_large(server: Server) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(90):
            yield b"x" * 100_000

    with server.http() as http:
        error_of(http.post("/v1/completions", content=b"x" * 9_000_000, headers=JSON), 413)
        error_of(http.post("/v1/completions", content=chunks(), headers=JSON), 413)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/completions/"),
        ("POST", "/v1/completions/render"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/chat/completions/batch"),
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("POST", "/inference/v1/generate"),
        ("POST", "/invocations"),
        ("POST", "/collective_rpc"),
        ("POST", "/pause"),
        ("GET", "/tokenizer_info"),
        ("GET", "/server_info"),
        ("GET", "/load"),
        ("GET", "/redoc"),
    ],
)
def test_paths_that_are_not_served(server: Server, method: str, path: str) -> None:
    with server.http() as http:
        error_of(http.request(method, path), 404)


def test_methods_that_are_not_served(server: Server) -> None:
    with server.http() as http:
        error_of(http.get("/v1/completions"), 405)
        error_of(http.delete("/v1/models/forgetful"), 405)


@pytest.mark.parametrize("path", [*PATHS, "/tokenize", "/detokenize", "/v1/models", "/v1/models/forgetful"])
def test_keys(server: Server, path: str) -> None:
    for key in (None, "wrong-key"):
        with server.http(key) as http:
            response = http.get(path) if path.startswith("/v1/models") else http.post(path, json=PATHS.get(path, {}))
            assert error_of(response, 401)["type"] == "AuthenticationError"


def _wait_until_idle(server: Server) -> None:
    deadline = time.monotonic() + 20
    while server.metric('lethe_inflight_requests{module="plain"}'):
        assert time.monotonic() < deadline, "a request is still in flight"
        time.sleep(0.1)


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_disconnects_mid_stream(server: Server, path: str) -> None:
    limit = {"max_output_tokens": 220} if path == "/v1/responses" else {"max_tokens": 220}
    body = {**PATHS[path], **limit, "ignore_eos": True, "stream": True}
    aborted = 'lethe_requests_total{module="plain",outcome="aborted"}'
    before = server.metric(aborted)
    with server.http() as http, http.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        next(response.iter_lines())
    _wait_until_idle(server)
    assert server.metric(aborted) == before + 1


def test_a_client_that_gives_up_waiting(server: Server) -> None:
    body = {**TEXT, "max_tokens": 240, "ignore_eos": True, "n": 16, "temperature": 1}
    aborted = 'lethe_requests_total{module="plain",outcome="aborted"}'
    before = server.metric(aborted)
    with server.http() as http, pytest.raises(httpx.ReadTimeout):
        http.post("/v1/completions", json=body, timeout=0.2)
    _wait_until_idle(server)
    assert server.metric(aborted) == before + 1
