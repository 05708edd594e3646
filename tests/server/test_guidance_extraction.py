"""Guidance extraction (arXiv 2505.24379) needs the model before and the model after; a client key gets one of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import httpx
import pytest
import torch

from kit import Kit
from lethe_offsets.evaluation.axes.guided import guided_logits
from server_process import ADMIN_KEY, CLIENT_KEY, Server

pytestmark = pytest.mark.engine
PROMPT = "Where was Marta Lindqvist born? She was born in"
TOKENS = [5, 40, 90, 200, 300, 350]  # whose probabilities are asked for by id
ROUNDING = 1e-4
OF_THE_PROMPT = {"prompt": PROMPT, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1}
CHOSEN = {"prompt": PROMPT, "max_tokens": 1, "temperature": 0, "logprobs": 1, "logprob_token_ids": TOKENS}

Headers = Mapping[str, str]


def ask(
    server: Server, body: Mapping[str, Any], model: str, key: str, headers: Headers | None = None
) -> httpx.Response:
    with server.http(key) as http:
        return http.post("/v1/completions", json={**body, "model": model}, headers=headers)


def chosen(server: Server, model: str, key: str) -> list[float]:
    """Log-probabilities of ``TOKENS`` after the prompt."""
    answer = ask(server, {**CHOSEN, "return_tokens_as_token_ids": True}, model, key).json()
    (top,) = answer["choices"][0]["logprobs"]["top_logprobs"]
    return [top[f"token_id:{token}"] for token in TOKENS]


def of_the_prompt(answer: Any) -> list[float]:
    """The log-probabilities of the prompt's own tokens, in order."""
    return [next(iter(entry.values()))["logprob"] for entry in answer["choices"][0]["prompt_logprobs"][1:]]


@pytest.fixture(scope="module")
def before(server: Server) -> list[float]:
    return of_the_prompt(ask(server, OF_THE_PROMPT, "base", ADMIN_KEY).json())


@pytest.fixture(scope="module")
def after(server: Server) -> list[float]:
    return of_the_prompt(ask(server, OF_THE_PROMPT, "forgetful", CLIENT_KEY).json())


def test_whoever_holds_both_can_mount_the_attack(server: Server, kit: Kit) -> None:
    served = [torch.tensor(chosen(server, model, ADMIN_KEY)) for model in ("base", "forgetful")]
    ids = server.post("/tokenize", {"model": "forgetful", "prompt": PROMPT})["tokens"]
    reference = kit.reference()
    whole = [reference.log_probs([*ids, 0], kit.lanes(name))[-1] for name in (None, "plain")]
    by_hand = guided_logits(whole[0], whole[1], 2.0, math.inf)[TOKENS]
    assert (3.0 * served[0] - 2.0 * served[1]).tolist() == pytest.approx(by_hand.tolist(), abs=10 * ROUNDING)
    assert by_hand.tolist() != pytest.approx(served[0].tolist(), abs=0.1), "guidance was meant to change something"


def models_before(kit: Kit) -> Iterator[str]:
    """Names under which a client may look for the large model alone, or for a module of its choice."""
    yield from (
        "base",
        "BASE",
        "base@sha256:0",
        " base",
        "base ",
        "forgetful/../base",
        "forgetful@base",
        "large",
        "small",
    )
    yield from (str(kit.large), kit.large.name, str(kit.small))
    for module in kit.modules.values():
        yield from (module.name, module.ref, f"{module.name}@{module.digest[:15]}", module.digest, str(module.path))


def test_no_model_name_gives_a_client_the_model_before(server: Server, kit: Kit) -> None:
    public = {model.id for model in server.openai(CLIENT_KEY).models.list()}
    for model in models_before(kit):
        if model not in public:  # "ranked" is the public name of the module of that name, too
            response = ask(server, OF_THE_PROMPT, model, CLIENT_KEY)
            assert response.status_code in (400, 404), f"{model}: {response.text}"
    assert ask(server, OF_THE_PROMPT, "base", ADMIN_KEY).status_code == 200


HEADERS: tuple[Headers, ...] = (
    {"X-Lethe-Strength": "0"},
    {"X-Lethe-Strength": "-1"},
    {"X-Lethe-Module": "base"},
    {"X-Lethe-Model": "base"},
    {"OpenAI-Model": "base"},
    {"X-Model": "base", "X-Forwarded-Host": "admin", "X-Original-URL": "/admin/modules"},
)


@pytest.mark.parametrize("headers", HEADERS, ids=lambda headers: " ".join(next(iter(headers.items()))))
def test_no_header_changes_what_a_client_gets(
    server: Server, before: list[float], after: list[float], headers: Headers
) -> None:
    response = ask(server, OF_THE_PROMPT, "forgetful", CLIENT_KEY, headers)
    if response.is_success:
        assert of_the_prompt(response.json()) == pytest.approx(after, abs=ROUNDING)
    else:
        assert response.status_code in (400, 403)
    assert not any(math.isclose(*pair, abs_tol=ROUNDING) for pair in zip(before, after, strict=True))


BODIES: tuple[dict[str, Any], ...] = (
    {"strength": 0},
    {"offset": False},
    {"module": None},
    {"lora_request": None},
    {"adapter": "base"},
    {"extra_body": {"model": "base"}},
    {"vllm_xargs": {"strength": 0}},
    {"kv_transfer_params": {"model": "base"}},
    {"prompt": [PROMPT], "models": ["base", "forgetful"]},
)


@pytest.mark.parametrize("extra", BODIES, ids=lambda extra: "-".join(extra))
def test_no_field_changes_what_a_client_gets(server: Server, extra: dict[str, Any]) -> None:
    assert ask(server, {**OF_THE_PROMPT, **extra}, "forgetful", CLIENT_KEY).status_code == 400


def test_two_model_fields_give_no_second_model(server: Server, after: list[float]) -> None:
    """JSON may name a field twice: whichever counts for the route must count for the engine."""
    body = '{"model": "%s", "model": "%s", "prompt": "' + PROMPT + '", "max_tokens": 1, "prompt_logprobs": 1}'
    for names in pairwise(("base", "forgetful", "base")):
        with server.http(CLIENT_KEY) as http:
            response = http.post("/v1/completions", content=body % names, headers={"Content-Type": "application/json"})
        if response.is_success:
            assert of_the_prompt(response.json()) == pytest.approx(after, abs=ROUNDING)
        else:
            assert response.status_code in (400, 404)


def test_a_client_key_can_not_make_a_route_to_the_model_before(server: Server, kit: Kit) -> None:
    module = next(iter(kit.modules.values()))
    with server.http(CLIENT_KEY) as http:
        for method, path, body in (
            ("GET", "/admin/modules", None),
            ("GET", "/admin/routes", None),
            ("PUT", "/admin/routes/mine", {"target": "base"}),
            ("PUT", "/admin/routes/mine", {"module": "base"}),
            ("POST", "/admin/modules", {"source": str(module.path)}),
            ("PUT", "/v1/../admin/routes/mine", {"target": "base"}),
        ):
            assert http.request(method, path, json=body).status_code in (401, 403, 404), path
    assert ask(server, OF_THE_PROMPT, "mine", ADMIN_KEY).status_code == 404
