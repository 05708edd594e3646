"""How much a caller may be told, by field and header. What a running server tells stands in ``test_api_disclosure``."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import Headers

from lethe_server.auth import Caller, Role
from lethe_server.disclosure import asked_strength, check_logprobs
from lethe_server.errors import FieldRefused

COMPLETIONS = {"logprobs", "prompt_logprobs", "logprob_token_ids"}
CHAT = {"logprobs", "top_logprobs", "prompt_logprobs", "logprob_token_ids"}
EVALUATOR = Caller("eve", Role.EVALUATOR)
ADMIN = Caller("ops", Role.ADMIN)


def client(cap: int = 5) -> Caller:
    return Caller("shop", Role.CLIENT, max_logprobs=cap)


@pytest.mark.parametrize(
    ("known", "body"),
    [
        (COMPLETIONS, {"logprobs": 6}),
        (COMPLETIONS, {"logprobs": -1}),
        (COMPLETIONS, {"logprobs": "6"}),
        (COMPLETIONS, {"logprobs": " 6 "}),
        (COMPLETIONS, {"logprobs": 6.0}),
        (COMPLETIONS, {"prompt_logprobs": 6}),
        (COMPLETIONS, {"prompt_logprobs": -1}),
        (COMPLETIONS, {"logprobs": 1, "prompt_logprobs": 20}),
        (COMPLETIONS, {"logprob_token_ids": [1, 2, 3, 4, 5, 6]}),
        (CHAT, {"logprobs": True, "top_logprobs": 6}),
        (CHAT, {"top_logprobs": "20"}),
        (CHAT, {"top_logprobs": -1}),
        (CHAT, {"prompt_logprobs": 10**30}),
    ],
)
def test_more_than_the_bound_is_refused(known: set[str], body: dict[str, Any]) -> None:
    with pytest.raises(FieldRefused, match="accepted: 0 to 5") as refused:
        check_logprobs(body, known, client())
    assert refused.value.field in body
    for free in (EVALUATOR, ADMIN):
        check_logprobs(body, known, free)
    with pytest.raises(FieldRefused):
        check_logprobs(body, known, Caller("eva", Role.EVALUATOR, max_logprobs=4))


@pytest.mark.parametrize(
    ("known", "body"),
    [
        (COMPLETIONS, {}),
        (COMPLETIONS, {"logprobs": 5, "prompt_logprobs": 0, "logprob_token_ids": [1, 2, 3]}),
        (COMPLETIONS, {"logprobs": None, "prompt_logprobs": None}),
        (COMPLETIONS, {"logprobs": "many", "logprob_token_ids": "x"}),  # the request model refuses these
        (CHAT, {"logprobs": True, "top_logprobs": 5}),
        (CHAT, {"logprobs": True}),
        (CHAT, {"logprobs": 20}),  # a switch: no number counts
    ],
)
def test_what_is_within_the_bound_passes(known: set[str], body: dict[str, Any]) -> None:
    check_logprobs(body, known, client())


def test_a_bound_of_none_at_all() -> None:
    check_logprobs({"logprobs": 0}, COMPLETIONS, client(0))
    check_logprobs({"logprobs": True}, CHAT, client(0))
    for body in ({"logprobs": 1}, {"logprobs": True}, {"logprob_token_ids": [1]}):
        with pytest.raises(FieldRefused, match="accepted: 0 to 0"):
            check_logprobs(body, COMPLETIONS, client(0))


def headers(*values: str) -> Headers:
    return Headers(raw=[(b"x-lethe-strength", value.encode("latin-1")) for value in values])


@pytest.mark.parametrize("caller", [EVALUATOR, ADMIN])
def test_who_measures_may_choose_a_strength(caller: Caller) -> None:
    assert asked_strength(headers(), caller) is None
    assert asked_strength(headers("0.5"), caller) == 0.5
    assert asked_strength(headers("-1e-1"), caller) == -0.1
    for wrong in (["strong"], [""], ["nan"], ["inf"], ["1e999"], ["0.5", "0.5"], ["0,5"], ["½"]):
        with pytest.raises(FieldRefused, match="one finite number") as refused:
            asked_strength(headers(*wrong), caller)
        assert refused.value.field == "X-Lethe-Strength"


@pytest.mark.parametrize("caller", [client(), Caller("anonymous", Role.ANONYMOUS)])
@pytest.mark.parametrize("value", ["0.5", "1", "strong", ""])
def test_others_may_not_whatever_they_ask_for(caller: Caller, value: str) -> None:
    assert asked_strength(headers(), caller) is None
    with pytest.raises(FieldRefused, match="only keys for measuring"):
        asked_strength(headers(value), caller)
