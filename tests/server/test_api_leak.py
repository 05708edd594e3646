"""With a module active, no field of any endpoint gives a number of the large model alone."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator
from typing import Any

import pytest

from kit import Kit
from server_process import ADMIN_KEY, CLIENT_KEY, Server

pytestmark = pytest.mark.engine
PROMPT = "Where was Marta Lindqvist born? She was born in"
MESSAGES = [{"role": "user", "content": PROMPT}]
TEXT = {"prompt": PROMPT, "temperature": 0, "max_tokens": 8, "return_tokens_as_token_ids": True}
CHAT = {"messages": MESSAGES, "temperature": 0, "max_tokens": 8, "logprobs": True, "top_logprobs": 5}
ANSWER = {"input": PROMPT, "temperature": 0, "max_output_tokens": 16, "top_logprobs": 5}
ANSWER = {**ANSWER, "include": ["message.output_text.logprobs"]}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("/v1/completions", {**TEXT, "logprobs": 5, "prompt_logprobs": 5}),
    "echo": ("/v1/completions", {**TEXT, "logprobs": 5, "echo": True}),
    "echo only": ("/v1/completions", {**TEXT, "logprobs": 5, "echo": True, "max_tokens": 0}),
    "text stream": ("/v1/completions", {**TEXT, "logprobs": 5, "echo": True, "stream": True}),
    "chosen ids": ("/v1/completions", {**TEXT, "logprobs": 1, "logprob_token_ids": [5, 6, 7, 8]}),
    "choices": ("/v1/completions", {**TEXT, "logprobs": 5, "n": 3, "temperature": 1, "seed": 3}),
    "batch": ("/v1/completions", {**TEXT, "logprobs": 5, "prompt": [PROMPT, PROMPT[:20]], "prompt_logprobs": 0}),
    "beams": ("/v1/completions", {**TEXT, "logprobs": 5, "n": 3, "use_beam_search": True}),
    "penalties": ("/v1/completions", {**TEXT, "logprobs": 5, "repetition_penalty": 1.3, "logit_bias": {"9": 1}}),
    "choice grammar": (
        "/v1/completions",
        {**TEXT, "logprobs": 5, "structured_outputs": {"choice": ["Oslo", "Bergen"]}},
    ),
    "chat": ("/v1/chat/completions", {**CHAT, "prompt_logprobs": 5}),
    "chat echo": ("/v1/chat/completions", {**CHAT, "echo": True}),
    "chat stream": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "responses": ("/v1/responses", ANSWER),
    "responses stream": ("/v1/responses", {**ANSWER, "stream": True}),
}


def ask(server: Server, request: str, model: str, key: str) -> Any:
    path, body = REQUESTS[request]
    with server.http(key) as http:
        response = http.post(path, json={**body, "model": model})
    assert response.status_code == 200, response.text
    if not body.get("stream"):
        return response.json()
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def log_probabilities(answer: Any) -> Iterator[float]:
    """Every number in an answer that can be a log-probability, wherever it stands."""
    if isinstance(answer, float) and -9000 < answer < 0:
        yield answer
    elif isinstance(answer, dict | list):
        for item in answer.values() if isinstance(answer, dict) else answer:
            yield from log_probabilities(item)


def shared(ours: list[float], theirs: list[float]) -> list[float]:
    """Those of ``ours`` that are within rounding of one of ``theirs``."""
    theirs = sorted(theirs)
    at = [bisect.bisect_left(theirs, number - 1e-6) for number in ours]
    return [number for number, i in zip(ours, at, strict=True) if i < len(theirs) and theirs[i] <= number + 1e-6]


@pytest.fixture(scope="module")
def of_the_large_model(server: Server) -> dict[str, list[float]]:
    return {name: list(log_probabilities(ask(server, name, "base", ADMIN_KEY))) for name in REQUESTS}


@pytest.mark.parametrize("request_name", REQUESTS)
def test_no_number_is_the_large_models(
    server: Server, of_the_large_model: dict[str, list[float]], request_name: str
) -> None:
    shown = list(log_probabilities(ask(server, request_name, "forgetful", CLIENT_KEY)))
    assert len(shown) >= 8
    everything = [number for numbers in of_the_large_model.values() for number in numbers]
    assert shared(shown, everything) == []
    assert len(shared(of_the_large_model[request_name], everything)) == len(of_the_large_model[request_name])


@pytest.mark.parametrize("model", ["forgetful", "base"])
def test_numbers_of_the_prompt_are_those_of_the_model_that_answers(server: Server, kit: Kit, model: str) -> None:
    answer = ask(server, "text", model, ADMIN_KEY)
    ids = server.post("/tokenize", {"model": "forgetful", "prompt": PROMPT})["tokens"]
    reference = kit.reference()
    tables = {
        name: reference.log_probs(ids, kit.lanes(lanes)) for name, lanes in (("forgetful", "plain"), ("base", None))
    }
    other = tables["base" if model == "forgetful" else "forgetful"]
    for position, entry in enumerate(answer["choices"][0]["prompt_logprobs"][1:]):
        for token, shown in entry.items():
            assert shown["logprob"] == pytest.approx(float(tables[model][position, int(token)]), abs=1e-4)
            assert shown["logprob"] != pytest.approx(float(other[position, int(token)]), abs=1e-5)


def test_the_greedy_answers_differ(server: Server) -> None:
    unlearned = ask(server, "text", "forgetful", CLIENT_KEY)["choices"][0]["text"]
    assert unlearned != ask(server, "text", "base", ADMIN_KEY)["choices"][0]["text"]
