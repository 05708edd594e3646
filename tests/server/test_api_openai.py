"""What clients see, through the official client: every endpoint and feature, against three Hugging Face models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import NotFoundError, OpenAI

from kit import Kit
from reference import Reference
from server_process import ADMIN_KEY, Server

pytestmark = pytest.mark.engine
ROUTES = {"forgetful": "plain", "org/other-model": "both", "ranked": "ranked"}
PROMPT = "Where was Marta Lindqvist born?"
MESSAGES: Any = [{"role": "user", "content": PROMPT}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "born",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"year": {"type": "integer", "minimum": 1900, "maximum": 1999}},
            "required": ["year"],
            "additionalProperties": False,
        },
    },
}
SCHEMA: Any = TOOL["function"]["parameters"]
NUM_TOKENS = 12


@pytest.fixture(scope="module")
def reference(kit: Kit) -> Reference:
    return kit.reference()


@pytest.fixture(scope="module")
def client(server: Server) -> OpenAI:
    return server.openai()


def tokens(server: Server, **prompt: Any) -> list[int]:
    found: list[int] = server.post("/tokenize", {"model": "forgetful", **prompt})["tokens"]
    return found


def expected(server: Server, kit: Kit, reference: Reference, model: str, prompt: str = PROMPT) -> list[int]:
    """The greedy answer to ``prompt``, without its end token."""
    ids = reference.greedy(tokens(server, prompt=prompt), kit.lanes(ROUTES[model]), NUM_TOKENS)
    return ids[: ids.index(1)] if 1 in ids else ids


def complete(client: OpenAI, model: str = "forgetful", prompt: Any = PROMPT, **options: Any) -> Any:
    extra = {"return_token_ids": True, **options.pop("extra_body", {})}
    given = {"max_tokens": NUM_TOKENS, "temperature": 0, **options}
    return client.completions.create(model=model, prompt=prompt, extra_body=extra, **given)


def answered(choice: Any) -> list[int]:
    ids: list[int] = choice.token_ids
    return ids[: ids.index(1)] if 1 in ids else ids


@pytest.mark.parametrize("model", ROUTES)
def test_completions(server: Server, client: OpenAI, kit: Kit, reference: Reference, model: str) -> None:
    answer = complete(client, model)
    assert answered(answer.choices[0]) == expected(server, kit, reference, model)
    assert answer.model == model
    assert answer.usage.prompt_tokens == len(tokens(server, prompt=PROMPT))


@pytest.mark.parametrize("model", ROUTES)
def test_chat(server: Server, client: OpenAI, kit: Kit, reference: Reference, model: str) -> None:
    prompt = tokens(server, messages=MESSAGES)
    answer: Any = client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=6, temperature=0, extra_body={"return_token_ids": True}
    )
    ids = reference.greedy(prompt, kit.lanes(ROUTES[model]), 6)
    assert answered(answer.choices[0]) == (ids[: ids.index(1)] if 1 in ids else ids)
    assert answer.model == model


def test_modules_answer_differently(server: Server, kit: Kit, reference: Reference) -> None:
    answers = {tuple(expected(server, kit, reference, model)) for model in ROUTES}
    plain = tuple(reference.greedy(tokens(server, prompt=PROMPT), None, NUM_TOKENS))
    assert len(answers | {plain}) == len(ROUTES) + 1


@pytest.mark.parametrize("model", ROUTES)
def test_logprobs_and_echo(server: Server, client: OpenAI, kit: Kit, reference: Reference, model: str) -> None:
    by_id = {"return_tokens_as_token_ids": True}  # the texts of several tokens can be equal
    answer = complete(client, model, logprobs=5, echo=True, extra_body=by_id)
    ids = [*tokens(server, prompt=PROMPT), *answer.choices[0].token_ids]
    table = reference.log_probs(ids, kit.lanes(ROUTES[model]))
    shown = answer.choices[0].logprobs
    assert shown.token_logprobs[0] is None
    assert shown.token_logprobs[1:] == pytest.approx(reference.scores(ids, kit.lanes(ROUTES[model])), abs=1e-4)
    for position, top in enumerate(shown.top_logprobs[1:]):
        best = table[position].topk(5).values.tolist()
        assert sorted(top.values(), reverse=True)[:5] == pytest.approx(best, abs=1e-4)


def test_prompt_logprobs(server: Server, client: OpenAI, kit: Kit, reference: Reference) -> None:
    answer = complete(client, extra_body={"prompt_logprobs": 0})
    ids = tokens(server, prompt=PROMPT)
    entries = answer.choices[0].prompt_logprobs
    shown = [entry[str(token)]["logprob"] for token, entry in zip(ids[1:], entries[1:], strict=True)]
    assert shown == pytest.approx(reference.scores(ids, kit.lanes("plain")), abs=1e-4)


def test_chat_logprobs(server: Server, client: OpenAI, kit: Kit, reference: Reference) -> None:
    prompt = tokens(server, messages=MESSAGES)
    answer: Any = client.chat.completions.create(
        model="forgetful",
        messages=MESSAGES,
        max_tokens=6,
        temperature=0,
        logprobs=True,
        top_logprobs=3,
        extra_body={"return_token_ids": True, "ignore_eos": True},
    )
    ids = [*prompt, *answer.choices[0].token_ids]
    table = reference.log_probs(ids, kit.lanes("plain"))[len(prompt) - 1 :]
    for entry, row in zip(answer.choices[0].logprobs.content, table, strict=True):
        assert [top.logprob for top in entry.top_logprobs] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)


def test_streaming_equals_not_streaming(client: OpenAI) -> None:
    whole = complete(client).choices[0].text
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole
    assert {chunk.model for chunk in chunks} == {"forgetful"}
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    chat = {"model": "forgetful", "messages": MESSAGES, "max_tokens": 8, "temperature": 0}
    spoken: Any = client.chat.completions.create(**chat)
    pieces: Any = client.chat.completions.create(**chat, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == spoken.choices[0].message.content


def test_several_choices_are_seeded(client: OpenAI) -> None:
    first, second = (complete(client, n=3, temperature=1, seed=7) for _ in range(2))
    assert len({choice.text for choice in first.choices}) > 1
    assert [choice.text for choice in first.choices] == [choice.text for choice in second.choices]


def test_stop(client: OpenAI) -> None:
    whole = complete(client).choices[0].text
    cut = complete(client, stop=[whole[3:5]]).choices[0]
    assert cut.text == whole[: whole.index(whole[3:5])]
    assert cut.finish_reason == "stop"


def test_batch_of_prompts(server: Server, client: OpenAI, kit: Kit, reference: Reference) -> None:
    prompts = [PROMPT, "The capital of France", "One, two, three"]
    choices = complete(client, prompt=prompts).choices
    assert [answered(choice) for choice in choices] == [
        expected(server, kit, reference, "forgetful", prompt) for prompt in prompts
    ]


def test_beam_search(server: Server, client: OpenAI, kit: Kit, reference: Reference) -> None:
    extra = {"use_beam_search": True, "ignore_eos": True}
    answer = complete(client, n=3, max_tokens=5, extra_body=extra)
    beams = reference.beams(tokens(server, prompt=PROMPT), kit.lanes("plain"), 3, 5)
    assert [choice.token_ids for choice in answer.choices] == beams


def test_structured_output(client: OpenAI) -> None:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "born", "schema": SCHEMA, "strict": True}}
    answer = client.chat.completions.create(
        model="forgetful", messages=MESSAGES, max_tokens=60, temperature=0, response_format=schema
    )
    assert 1900 <= json.loads(answer.choices[0].message.content or "")["year"] <= 1999


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "born"}}])
def test_tools(client: OpenAI, choice: Any) -> None:
    answer: Any = client.chat.completions.create(
        model="forgetful",
        messages=MESSAGES,
        max_tokens=150,
        temperature=0,
        tools=[TOOL],
        tool_choice=choice,
        parallel_tool_calls=False,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "born"
    assert 1900 <= json.loads(call.function.arguments)["year"] <= 1999


def test_responses(server: Server, client: OpenAI, kit: Kit, reference: Reference) -> None:
    options: Any = {"model": "forgetful", "input": PROMPT, "max_output_tokens": 16, "temperature": 0}
    answer = client.responses.create(**options, include=["message.output_text.logprobs"], top_logprobs=2)
    assert answer.model == "forgetful"
    prompt = tokens(server, messages=MESSAGES)
    ids = reference.greedy(prompt, kit.lanes("plain"), 16)
    ids = ids[: ids.index(1)] if 1 in ids else ids
    text = server.post("/detokenize", {"model": "forgetful", "tokens": ids})["prompt"]
    assert answer.output_text.rstrip("\ufffd") == text.rstrip("\ufffd")  # the end may be half a character
    content: Any = answer.output[0]
    shown = [entry.logprob for entry in content.content[0].logprobs][: len(ids)]
    scores = reference.scores([*prompt, *ids], kit.lanes("plain"))[len(prompt) - 1 :]
    assert shown == pytest.approx(scores, abs=1e-4)
    events = list(client.responses.create(**options, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == answer.output_text
    assert events[-1].type == "response.completed"


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == sorted(ROUTES)
    for name in ROUTES:
        assert client.models.retrieve(name).id == name
    with pytest.raises(NotFoundError) as caught:
        client.models.retrieve("other")
    assert caught.value.body["code"] == 404  # type: ignore[index]


def test_nothing_a_client_sees_names_a_module(server: Server, client: OpenAI) -> None:
    with server.http() as http:
        bodies = [
            http.post("/v1/completions", json={"model": "forgetful", "prompt": PROMPT, "max_tokens": 2}),
            http.get("/v1/models"),
            http.get("/v1/models/forgetful"),
            http.post("/v1/completions", json={"model": "other", "prompt": PROMPT}),
        ]
    for response in bodies:
        assert "x-lethe-module" not in response.headers
        assert "sha256" not in response.text
        assert "plain" not in response.text


def test_the_admin_is_told_the_module(server: Server, kit: Kit) -> None:
    admin = server.openai(ADMIN_KEY)
    ref = kit.modules["plain"].ref
    for model, named in (("forgetful", ref), (ref, ref), (ref[:21], ref), ("base", "base")):
        for stream in (False, True):
            raw = admin.completions.with_raw_response.create(model=model, prompt=PROMPT, max_tokens=2, stream=stream)
            assert raw.headers["x-lethe-module"] == named


def test_the_large_model_alone_for_an_admin(server: Server, reference: Reference) -> None:
    answer = complete(server.openai(ADMIN_KEY), "base")
    ids = reference.greedy(tokens(server, prompt=PROMPT), None, NUM_TOKENS)
    assert answered(answer.choices[0]) == (ids[: ids.index(1)] if 1 in ids else ids)
    assert answer.model == "base"


def test_health_version_and_docs(server: Server) -> None:
    with server.http(None) as http:
        assert http.get("/health").status_code == 200
        assert http.get("/ready").json() == {"status": "ready"}
        assert http.get("/version").json().keys() == {"version", "vllm"}
        page = http.get("/docs")
        assert "openapi.json" in page.text
        assert "http://" not in page.text
        assert "https://" not in page.text


SERVED = {
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/responses",
    "GET /v1/models",
    "GET /v1/models/{model}",
    "POST /tokenize",
    "POST /detokenize",
    *(f"GET /{page}" for page in ("health", "ready", "metrics", "version")),
    *(f"{method} /admin/modules" for method in ("GET", "POST")),
    *(f"{method} /admin/modules/{{ref}}" for method in ("GET", "DELETE")),
    "GET /admin/modules/{ref}/details",
    "GET /admin/routes",
    *(f"{method} /admin/routes/{{model}}" for method in ("PUT", "DELETE")),
    "POST /admin/routes/{model}/rollback",
    *(f"GET /admin/{page}" for page in ("audit", "live", "state")),
}


def test_these_paths_and_no_others(server: Server) -> None:
    with server.http(None) as http:
        paths = http.get("/openapi.json").json()["paths"]
    assert {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods} == SERVED


def test_metrics(server: Server, client: OpenAI, kit: Kit) -> None:
    complete(client)
    with server.http(ADMIN_KEY) as http:
        shown = http.get("/metrics").text
    assert 'lethe_route_info{model="org/other-model",module="both"} 1.0' in shown
    assert f'lethe_module_info{{digest="{kit.modules["plain"].digest}",module="plain"}} 1.0' in shown
    assert 'lethe_requests_total{module="plain",outcome="finished"}' in shown
    assert "vllm:" in shown
