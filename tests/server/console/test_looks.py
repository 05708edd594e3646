"""Narrow and wide, light and dark, and what a screen reader is told."""

from __future__ import annotations

import itertools

import pytest

from console_steps import LIVE, Served, turn_to
from devtools import Page

pytestmark = pytest.mark.engine
WIDTHS = (360, 768, 1440)
CONTROLS = {"button", "link", "textbox", "searchbox", "combobox", "checkbox", "radio", "spinbutton", "progressbar"}
# Text against the nearest ground that is not transparent, by WCAG 2's formula; disabled controls are exempt.
CONTRAST = """(() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((each) => each / 255)
    .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const found = channels(getComputedStyle(node).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    throw new Error("no ground");
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const low = [];
  for (let text; (text = walker.nextNode());) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility() || node.closest(":disabled, noscript, option")) continue;
    const style = getComputedStyle(node);
    const ink = node instanceof SVGElement ? style.fill : style.color;
    const [one, other] = [light(channels(ink)), light(ground(node))].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) low.push(`${text.data.trim()}: ${ink} on ${ground(node)}`);
  }
  return low;
})()"""
OUTSIDE = """[...document.querySelectorAll("body *")].filter((node) => node.checkVisibility()
  && !node.closest("caption, .skip, thead") && node.getBoundingClientRect().right > innerWidth + 1)
  .map((node) => node.outerHTML)"""


def check_looks(page: Page) -> None:
    for width, scheme in itertools.product(WIDTHS, ("light", "dark")):
        page.look(width, scheme=scheme)
        assert page.js("document.documentElement.scrollWidth") <= width, f"{width} scrolls sideways"
        assert page.js(OUTSIDE) == []
        assert page.js(CONTRAST) == [], scheme
    page.look(1280)


def check_names(page: Page) -> None:
    """Landmarks, one first heading, and a name for every control; no heading is skipped."""
    nodes = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in page.tree()]
    roles = [role for role, _ in nodes]
    assert {"banner", "main", "navigation"} <= set(roles)
    assert [role for role, name in nodes if role in CONTROLS and not name.strip()] == []
    levels = page.js("[...document.querySelectorAll('h1, h2, h3')].map((each) => Number(each.tagName[1]))")
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def test_the_modules(page: Page) -> None:
    check_looks(page)
    check_names(page)
    page.look(360)
    assert {"table", "row", "rowheader", "cell"} <= {node["role"]["value"] for node in page.tree()}


def test_a_module(page: Page, served: Served) -> None:
    """Its page says what its files say."""
    page.js(f"location.hash = '#/modules/{served.first.name}%40{served.first.digest}'")
    page.named("heading", served.first.name)
    for words in (served.first.digest, LIVE, "Asked plainly", "1.1%", "90%", "Version"):
        page.until_text(words)
    curve = page.js("document.querySelector('svg.curve').getAttribute('aria-label')")
    assert curve.startswith("Over 20 steps the forgotten answers went from 0.99 to 0.05")
    page.js("for (const each of document.querySelectorAll('details')) each.open = true")
    page.until_text("probability.forget")
    check_looks(page)
    check_names(page)


def test_the_routes_and_their_dialog(page: Page, served: Served) -> None:
    turn_to(page, "Routes")
    check_looks(page)
    check_names(page)
    page.click("button", f"Swap {LIVE}…")
    page.js(f"document.querySelector('dialog input[value=\"{served.first.ref}\"]').click()")
    page.until_text("Then")
    check_looks(page)
    names = [node["name"]["value"] for node in page.tree() if node["role"]["value"] in CONTROLS]
    assert all(name.strip() for name in names)
    page.press("Escape")


def test_the_playground(page: Page) -> None:
    turn_to(page, "Playground")
    page.fill("textbox", "Prompt", "One, two, three")
    page.click("button", "Ask both")
    page.until("document.querySelectorAll('.strip').length === 2")
    page.js("for (const each of document.querySelectorAll('details')) each.open = true")
    check_looks(page)
    check_names(page)


def test_the_audit_log_page_by_page(page: Page, served: Served) -> None:
    """The newest line is on the first page and the first one on the last, and nothing lies between them unseen."""
    for _ in range(20):
        served.ask("PUT", "/admin/routes/paged", {"module": served.first.ref})
    turn_to(page, "Audit log")
    last = served.api("/admin/audit?after=0&limit=1")["last"]
    rows = "[...document.querySelectorAll('tbody th')].map((each) => Number(each.textContent.slice(1)))"
    seen: list[int] = page.js(rows)
    assert seen[0] == last
    while page.js("![...document.querySelectorAll('.pager button')][1].disabled"):
        before = page.js("document.querySelector('.pager p').textContent")
        page.click("button", "Older")
        page.until(f"document.querySelector('.pager p').textContent !== {before!r}")
        seen += page.js(rows)
    assert set(seen) == set(range(1, last + 1))
    page.js("[...document.querySelectorAll('tbody summary')].at(-2).click()")  # of the start, when it was done
    page.until_text('"complete": true')
    check_looks(page)
    check_names(page)


def test_signing_in(opened: Page) -> None:
    check_looks(opened)
    assert [node["name"]["value"] for node in opened.tree() if node["role"]["value"] == "button"] == ["Sign in"]
