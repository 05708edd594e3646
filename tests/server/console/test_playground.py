"""The large model alone beside the unlearned one, compared with the API's own answers."""

from __future__ import annotations

from typing import Any

import pytest

from console_steps import EVALUATOR_KEY, LIVE, Served, sign_in, turn_to
from devtools import Page
from server_process import ADMIN_KEY

pytestmark = pytest.mark.engine
PROMPT = "Where was Marta Lindqvist born?"
NUM_TOKENS = 12
READ = """[...document.querySelectorAll(".side")].map((side) => ({
  answer: side.querySelector(".answer").textContent,
  changed: [...side.querySelectorAll("tbody tr")].map((row) => row.children[1].textContent === "changed"),
  numbers: [...side.querySelectorAll("tbody tr")].map((row) => [2, 3, 4].map((at) => row.children[at].textContent)),
  strip: [...side.querySelectorAll(".strip .offset")].map((cell) => cell.textContent),
  marked: [...side.querySelectorAll("mark")].map((mark) => mark.textContent).join(""),
}))"""


def asked(page: Page, model: str, **fields: str) -> list[dict[str, Any]]:
    """Both answers, as they are shown."""
    page.fill("textbox", "Prompt", PROMPT)
    page.fill("combobox", "Model: a public name, or a module", model)
    page.fill("spinbutton", "Most tokens", str(NUM_TOKENS))
    for name, value in fields.items():
        page.fill("spinbutton", name, value)
    page.click("button", "Ask both")
    page.until("document.querySelectorAll('.side[aria-busy]').length === 0 && !!document.querySelector('.strip')")
    found: list[dict[str, Any]] = page.js(READ)
    return found


def answered(served: Served, model: str, path: str, strength: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "max_tokens": NUM_TOKENS, "temperature": 0, "return_token_ids": True}
    asked = {"messages": [{"role": "user", "content": PROMPT}]} if "chat" in path else {"prompt": PROMPT}
    headers = {} if strength is None else {"X-Lethe-Strength": strength}
    with served.server.http(ADMIN_KEY) as http:
        answer: dict[str, Any] = http.post(path, json={**body, **asked}, headers=headers).json()
    choice = answer["choices"][0]
    return {"prompt": choice.get("prompt_token_ids") or answer["prompt_token_ids"], "ids": choice["token_ids"]}


def logprobs(served: Served, model: str, made: dict[str, Any]) -> list[float]:
    """Of each token of an answer, given all before it."""
    body = {"model": model, "prompt": made["prompt"] + made["ids"], "max_tokens": 1, "prompt_logprobs": 0}
    found = served.server.post("/v1/completions", body, ADMIN_KEY)["choices"][0]["prompt_logprobs"]
    start = len(made["prompt"])
    return [found[start + at][str(token)]["logprob"] for at, token in enumerate(made["ids"])]


def read(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-"))


def check(served: Served, shown: list[dict[str, Any]], made: list[dict[str, Any]], model: str) -> None:
    """What is shown of both answers is what the API says of them."""
    for side, answer in zip(shown, made, strict=True):
        alone, unlearned = logprobs(served, "base", answer), logprobs(served, model, answer)
        assert [read(each[0]) for each in side["numbers"]] == pytest.approx(alone, abs=0.011)
        assert [read(each[1]) for each in side["numbers"]] == pytest.approx(unlearned, abs=0.011)
        offsets = [one - other for one, other in zip(unlearned, alone, strict=True)]
        assert [read(each) for each in side["strip"]] == pytest.approx(offsets, abs=0.011)
        assert [each[2] for each in side["numbers"]] == side["strip"]
        assert any(side["changed"]) == bool(side["marked"])


def test_both_answers_and_every_offset_are_the_apis(page: Page, served: Served) -> None:
    turn_to(page, "Playground")
    shown = asked(page, LIVE)
    made = [answered(served, model, "/v1/chat/completions") for model in ("base", LIVE)]
    assert made[0]["ids"] != made[1]["ids"]
    check(served, shown, made, LIVE)
    assert any(any(side["changed"]) for side in shown)
    same = [
        [token for token, changed in zip(answer["ids"], side["changed"], strict=True) if not changed]
        for answer, side in zip(made, shown, strict=True)
    ]
    assert same[0] == same[1]
    page.until_text(served.first.digest.removeprefix("sha256:")[:8])


def test_a_module_by_its_reference_as_a_text_not_streamed(page: Page, served: Served) -> None:
    turn_to(page, "Playground")
    page.click("radio", "a text to go on with")
    page.click("checkbox", "streamed")
    shown = asked(page, served.first.ref)
    made = [answered(served, model, "/v1/completions") for model in ("base", served.first.ref)]
    check(served, shown, made, served.first.ref)


def test_strength_zero_changes_nothing_and_one_out_of_bounds_is_refused(opened: Page, served: Served) -> None:
    """By an evaluator's key, which may choose it."""
    sign_in(opened, EVALUATOR_KEY)
    opened.named("heading", "Playground")
    shown = asked(opened, LIVE, Strength="0")
    assert [side["marked"] for side in shown] == ["", ""]
    assert {each for side in shown for each in side["strip"]} == {"0.00"}
    opened.until_text("Both answers are the same.")
    opened.fill("spinbutton", "Strength", "77")
    opened.click("button", "Ask both")
    opened.until("document.querySelector('main [role=alert]')?.innerText.includes('400 BadRequestError')")
    assert "77" in opened.js("document.querySelector('main [role=alert]').innerText")


def test_an_answer_that_is_stopped(page: Page, served: Served) -> None:
    turn_to(page, "Playground")
    page.fill("textbox", "Prompt", PROMPT)
    page.fill("spinbutton", "Most tokens", "200")
    page.click("button", "Ask both")
    page.click("button", "Stop")
    page.until_text("Stopped")
    page.until("!document.querySelector('form button.primary').disabled")
    turn_to(page, "Routes")
    page.until("[...document.querySelectorAll('[data-inflight]')].every((each) => each.textContent === '0 requests')")
