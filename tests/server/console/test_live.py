"""What changes by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from console_steps import LIVE, Served, turn_to
from devtools import Page

pytestmark = pytest.mark.engine
NUM_THREADS = 4
HIDE = """Object.defineProperty(document, "hidden", { value: %s, configurable: true });
document.dispatchEvent(new Event("visibilitychange"))"""


@contextmanager
def busy(served: Served) -> Iterator[threading.Event]:
    """Requests without end on one route, until the event is set or the block is left."""
    done = threading.Event()
    body = {"model": LIVE, "prompt": "One, two", "max_tokens": 100, "ignore_eos": True}

    def ask() -> None:
        while not done.is_set():
            served.server.post("/v1/completions", body)

    threads = [threading.Thread(target=ask) for _ in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        done.set()
        for thread in threads:
            thread.join()


def inflight(ref: str) -> str:
    """Whether the page of modules shows that a module answers requests."""
    return f"Number(document.querySelector('tr[data-key=\"{ref}\"] [data-inflight]')?.textContent) > 0"


def num_polls(page: Page) -> int:
    page.js("1")  # what was said since is read with the answer
    return sum(each.endswith("/admin/live") for each in page.requests)


def test_requests_in_flight_are_counted_and_a_swap_drains_them(page: Page, served: Served) -> None:
    served.ask("POST", "/admin/modules", {"source": str(served.second.path)})
    with busy(served) as done:
        page.until(inflight(served.first.ref))
        turn_to(page, "Routes")
        page.until(f"!document.querySelector('[data-model={LIVE}] [data-inflight]').textContent.startsWith('0')")
        page.click("button", f"Swap {LIVE}…")
        page.js(f"document.querySelector('dialog input[value=\"{served.second.ref}\"]').click()")
        page.click("button", "Swap")
        page.until_text("No request is left on people@")
        running = {each["ref"]: each["inflight"] for each in served.api("/admin/modules")}
        assert running[served.first.ref] == 0
        done.set()
    page.click("button", "Close")
    page.until(f"document.querySelector('[data-model={LIVE}] [data-inflight]').textContent === '0 requests'")


def test_a_module_is_removed_once_its_requests_have_ended(page: Page, served: Served) -> None:
    served.ask("POST", "/admin/modules", {"source": str(served.second.path)})
    served.ask("PUT", f"/admin/routes/{LIVE}", {"module": served.second.ref})
    with busy(served) as done:
        page.until(inflight(served.second.ref))
        served.ask("PUT", f"/admin/routes/{LIVE}", {"module": served.first.ref})
        page.until(f"document.querySelector('tr[data-key=\"{served.second.ref}\"]').innerText.includes('—')")
        page.js(f"document.querySelector('[data-focus=\"remove {served.second.ref}\"]').click()")
        page.click("button", "Remove")
        page.until_text("is gone.")
        done.set()
    assert served.second.ref not in served.refs()


def test_nothing_is_asked_while_the_page_is_hidden(page: Page) -> None:
    before = num_polls(page)
    page.until("document.getElementById('state').textContent.startsWith('Generation')")
    page.js(HIDE % "true")
    page.js("new Promise((done) => setTimeout(done, 300))")  # one that was under way ends
    asleep = num_polls(page)
    page.js("new Promise((done) => setTimeout(done, 1500))")
    assert num_polls(page) == asleep
    page.js(HIDE % "false")
    page.js("new Promise((done) => setTimeout(done, 300))")
    assert num_polls(page) > max(asleep, before)


def test_a_server_that_is_gone_is_told_of_until_it_is_back(page: Page) -> None:
    page.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    page.until_text("The server does not answer")
    page.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    page.until("document.getElementById('trouble').hidden")
    page.complaints[:] = [each for each in page.complaints if "ERR_INTERNET_DISCONNECTED" not in each]
