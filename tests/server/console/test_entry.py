"""Who comes in, what for, and where the key is not."""

from __future__ import annotations

import httpx
import pytest

from console_steps import EVALUATOR_KEY, LIVE, OTHER, Served, sign_in
from devtools import Page
from server_process import ADMIN_KEY, CLIENT_KEY

pytestmark = pytest.mark.engine
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
}


def test_every_file_comes_under_the_strict_policy_and_is_kept_nowhere(served: Served, opened: Page) -> None:
    """The page's own files are all it loads, and they say nothing about this server."""
    asked = [each.removeprefix("GET ") for each in opened.requests]
    assert all(each.startswith(f"{served.server.url}/console") or each == "about:blank" for each in asked)
    for url in {each for each in asked if each != "about:blank"}:
        answer = httpx.get(url)
        assert answer.status_code == 200
        assert set(answer.headers["content-security-policy"].split("; ")) >= POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert not any(secret in answer.text for secret in (served.first.name, served.first.digest, OTHER))


@pytest.mark.parametrize("path", ["/console/nothing.js", "/console/..%2fauth.py", "/console/__init__.py"])
def test_nothing_else_is_given_away(path: str, served: Served) -> None:
    assert httpx.get(f"{served.server.url}{path}").status_code in (401, 404)


def test_the_address_of_the_folder_leads_to_the_page(served: Served) -> None:
    answer = httpx.get(f"{served.server.url}/console/", follow_redirects=True)
    assert answer.url.path == "/console"
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("key", "said"), [("wrong", "401 AuthenticationError"), (CLIENT_KEY, "the key sent is an inference key")]
)
def test_other_keys_are_refused_with_what_the_server_says(key: str, said: str, opened: Page) -> None:
    sign_in(opened, key)
    opened.until_text(said)
    assert opened.js("document.querySelector('nav').hidden")
    assert opened.js("document.activeElement.type") == "password"


def test_an_evaluator_gets_the_playground_alone(opened: Page) -> None:
    sign_in(opened, EVALUATOR_KEY)
    opened.named("heading", "Playground")
    links = [node["name"]["value"] for node in opened.tree() if node["role"]["value"] == "link"]
    assert links == ["Skip to the content", "Playground"]


def test_the_key_is_in_memory_only_and_goes_with_the_session(page: Page) -> None:
    assert page.js("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    assert ADMIN_KEY not in page.js(
        "location.href + document.documentElement.outerHTML + JSON.stringify(history.state)"
    )
    assert not any(ADMIN_KEY in each for each in page.requests)
    page.click("button", "Sign out")
    page.named("textbox", "Key of an administrator")
    page.js("location.hash = '#/routes'")
    assert page.js("document.querySelector('h1').textContent") == "Sign in"
    sign_in(page, ADMIN_KEY)
    page.named("heading", "Routes")


def test_what_a_module_says_of_itself_is_text(page: Page, served: Served) -> None:
    page.until_text(served.first.manifest.description)
    assert page.js("document.querySelectorAll('main img').length") == 0
    assert "run" not in page.js("document.title")


def test_by_keyboard_alone(opened: Page, served: Served) -> None:
    """From the key to a change that is made and seen, without the mouse; the focus comes back to where it was."""
    assert opened.js("document.activeElement.type") == "password"
    opened.call("Input.insertText", text=ADMIN_KEY)
    opened.press("Enter")
    opened.named("heading", "Modules")
    assert opened.js("document.activeElement.tagName") == "H1"
    opened.tab_to("Add a module…")
    opened.press("Enter")
    opened.call("Input.insertText", text=str(served.second.path))
    opened.press("Enter")
    opened.until_text("is in the catalog")
    assert served.second.ref in served.refs()
    opened.press("Enter")  # on Close
    opened.until("document.activeElement.textContent === 'Add a module…'")
    opened.tab_to("Routes")
    opened.press("Enter")
    opened.named("heading", "Routes")
    opened.tab_to(f"Swap {LIVE}…")
    opened.press(" ")
    opened.named("dialog", f"Swap what answers for {LIVE}")
    opened.press("Escape")
    opened.until(f"document.activeElement.getAttribute('aria-label') === 'Swap {LIVE}…'")
