"""Every change that the console makes, and its effect on the server."""

from __future__ import annotations

import pytest

from console_steps import LIVE, OTHER, Served, turn_to
from devtools import Page

pytestmark = pytest.mark.engine


@pytest.fixture
def added(page: Page, served: Served) -> Page:
    """The routes, with the second version in the catalog."""
    served.ask("POST", "/admin/modules", {"source": str(served.second.path)})
    turn_to(page, "Routes")
    return page


def choose(page: Page, ref: str) -> None:
    page.js(f"document.querySelector('dialog input[value=\"{ref}\"]').click()")


def finish(page: Page, action: str) -> None:
    page.click("button", action)
    page.until_text("Done: ")
    page.click("button", "Close")
    page.until("!document.querySelector('dialog')")


def weights(served: Served, model: str) -> dict[str, float]:
    return {"+".join(target["modules"]): target["weight"] for target in served.routes()[model]["targets"]}


def test_a_module_is_added(page: Page, served: Served) -> None:
    page.click("button", "Add a module…")
    page.fill("textbox", "Directory on the server, or URL", str(served.second.path))
    page.fill("textbox", "Digest that it must have", served.second.digest)
    finish(page, "Add")
    assert served.second.ref in served.refs()
    page.until("document.querySelectorAll('tbody tr').length === 3")


def test_a_canary_then_all_then_back(added: Page, served: Served) -> None:
    """Each is asked for with whole digests, and shown once it is in force."""
    added.click("button", f"Swap {LIVE}…")
    choose(added, served.second.ref)
    added.click("radio", "A share of clients")
    added.fill("spinbutton", "Percent", "20")
    asked = added.js("document.querySelector('.before-after').innerText")
    assert served.first.ref in asked
    assert served.second.ref in asked
    assert "20% of clients" in asked
    finish(added, "Swap")
    assert weights(served, LIVE) == {served.first.ref: 80.0, served.second.ref: 20.0}
    added.until_text("20%")

    added.click("button", f"Swap {LIVE}…")
    choose(added, served.second.ref)
    finish(added, "Swap")
    assert list(weights(served, LIVE)) == [served.second.ref]
    added.until("!document.body.innerText.includes('20%')")

    added.click("button", f"Roll back {LIVE}…")
    finish(added, "Roll back")
    assert weights(served, LIVE) == {served.first.ref: 80.0, served.second.ref: 20.0}


def test_a_shadow_only_compares(added: Page, served: Served) -> None:
    added.click("button", f"Swap {LIVE}…")
    choose(added, served.second.ref)
    added.click("radio", "No client: compare only")
    added.fill("spinbutton", "Percent", "50")
    finish(added, "Swap")
    route = served.routes()[LIVE]
    assert route["shadow"] == {"modules": [served.second.ref], "share": 0.5}
    assert list(weights(served, LIVE)) == [served.first.ref]


def test_a_new_name_for_two_merged_and_its_end(added: Page, served: Served) -> None:
    added.click("button", "New public name…")
    added.fill("textbox", "Public name", "new")
    for ref in (served.first.ref, served.second.ref):
        choose(added, ref)
    added.until_text(f"{served.first.ref} + " if served.first.ref < served.second.ref else f"{served.second.ref} + ")
    added.click("button", "Serve")
    # What the merger needs the second version lacks: its rule is another one. The whole reason is shown.
    added.until("!!document.querySelector('dialog [role=alert]')")
    assert "422 UnprocessableEntityError" in added.js("document.querySelector('dialog [role=alert]').innerText")
    assert "new" not in served.routes()
    choose(added, served.second.ref)
    finish(added, "Serve")
    assert list(weights(served, "new")) == [served.first.ref]
    added.click("button", "Serve no more new…")
    finish(added, "Serve no more")
    assert "new" not in served.routes()


def test_a_module_that_a_route_names_stays_and_another_goes(added: Page, served: Served) -> None:
    turn_to(added, "Modules")
    added.js(f"document.querySelector('[data-focus=\"remove {served.first.ref}\"]').click()")
    added.until_text("the server will refuse")
    added.click("button", "Remove")
    added.until_text(f"module {served.first.ref} is named by {LIVE}; point these elsewhere first")
    added.click("button", "Cancel")
    added.js(f"document.querySelector('[data-focus=\"remove {served.second.ref}\"]').click()")
    added.until_text(served.second.ref)
    finish(added, "Remove")
    assert served.refs() & {served.first.ref, served.second.ref} == {served.first.ref}
    added.until("document.querySelectorAll('tbody tr').length === 2")


def test_a_change_of_what_was_not_seen_is_refused(added: Page, served: Served) -> None:
    added.click("button", f"Swap {LIVE}…")
    choose(added, served.second.ref)
    served.ask("PUT", f"/admin/routes/{OTHER}2", {"module": served.first.ref})
    added.click("button", "Swap")
    added.until_text("412 PreconditionFailedError")
    assert list(weights(served, LIVE)) == [served.first.ref]


def test_the_plan_is_checked_before_it_is_sent(added: Page, served: Served) -> None:
    added.click("button", f"Swap {LIVE}…")
    added.click("button", "Swap")
    added.until("document.querySelector('dialog [role=alert]')?.innerText.includes('Choose a module.')")
    choose(added, served.first.ref)
    added.click("radio", "A share of clients")
    added.until_text(f"Nothing else answers for {LIVE}")
    assert served.routes()[LIVE]["module"] == served.first.ref
