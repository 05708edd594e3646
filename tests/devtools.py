"""A real browser, driven over its DevTools protocol as a person drives it: by names, keys and the mouse."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"),
    # Nothing but the page under test is to be asked of any network.
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
)
START_S, WAIT_S, POLL_S = 60.0, 30.0, 0.05
ANSWER_S = 180.0  # a browser on a busy machine was seen to stop for more than a minute
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Escape": (27, ""), " ": (32, " "), "ArrowDown": (40, "")}
ACTIVE = """(() => {
  const node = document.activeElement;
  return (node.getAttribute("aria-label") ?? node.labels?.[0]?.textContent ?? node.textContent).trim();
})()"""


class Refused(Exception):
    """The browser doesn't do what it was told."""


class Page:
    """One tab. complaints: what the browser said of it: errors, refused resources, exceptions."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv(timeout=ANSWER_S))
            if said.get("id") == self._number:
                if "error" in said:
                    raise Refused(f"{method}: {said['error']}")
                return said["result"]
            if "method" in said:  # else the answer to a call that was not waited for any longer
                self._note(said)

    def go(self, url: str) -> None:
        self.call("Page.navigate", url="about:blank")  # an address that differs in its hash only loads nothing
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """What an expression gives, awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """What an expression gives once that is true."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            if value := self.js(expression):
                return value
            time.sleep(POLL_S)
        raise AssertionError(f"never true: {expression}\n{self.text()[:2000]}\n{self.complaints}")

    def until_text(self, words: str) -> None:
        self.until(f"document.body.innerText.includes({json.dumps(words)})")

    def text(self) -> str:
        return str(self.js("document.body.innerText"))

    def tree(self) -> list[dict[str, Any]]:
        """The nodes of the accessibility tree that a screen reader sees."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node["ignored"]]

    def named(self, role: str, name: str) -> int:
        """The node with a role and a name; waits until there is one."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for node in self.tree():
                if node["role"]["value"] == role and node.get("name", {}).get("value", "").strip() == name:
                    found: int = node["backendDOMNodeId"]
                    return found
            time.sleep(POLL_S)
        raise AssertionError(f"no {role} named {name!r}:\n{self.text()[:2000]}\n{self.complaints}")

    def click(self, role: str, name: str) -> None:
        """The mouse on the middle of what has this role and name; found again where the page was drawn anew."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            node = self.named(role, name)
            with suppress(Refused, IndexError):
                self.call("DOM.scrollIntoViewIfNeeded", backendNodeId=node)
                quad = self.call("DOM.getContentQuads", backendNodeId=node)["quads"][0]
                place = {"x": sum(quad[::2]) / 4, "y": sum(quad[1::2]) / 4, "button": "left", "clickCount": 1}
                for kind in ("mousePressed", "mouseReleased"):
                    self.call("Input.dispatchMouseEvent", type=kind, **place)
                return
        raise AssertionError(f"{role} {name!r} is nowhere to be clicked")

    def fill(self, role: str, name: str, text: str) -> None:
        """Type in place of what stands in a field."""
        self.call("DOM.focus", backendNodeId=self.named(role, name))
        self.js("document.activeElement.select()")
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        code, text = KEYS[key]
        sent = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **sent)
        self.call("Input.dispatchKeyEvent", type="keyUp", **sent)

    def tab_to(self, name: str) -> None:
        """By the Tab key alone to what has this name."""
        for _ in range(80):
            self.press("Tab")
            if self.js(ACTIVE) == name:
                return
        raise AssertionError(f"no way by keyboard to {name!r}")

    def look(self, width: int, height: int = 900, scheme: str = "light") -> None:
        """The window's size and the colours that its user prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        preferred = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in preferred.items()]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.until(f"innerWidth === {width} && matchMedia('(prefers-color-scheme: {scheme})').matches")
        self.js("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => drawn(true))))")

    def picture(self, path: Path) -> None:
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)["data"]
        path.write_bytes(base64.b64decode(data))

    def _note(self, said: dict[str, Any]) -> None:
        given = said.get("params", {})
        match said["method"]:
            case "Log.entryAdded" if given["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")
            case "Runtime.exceptionThrown":
                self.complaints.append(str(given["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if given["type"] in ("error", "warning"):
                self.complaints.append(str(given["args"]))
            case "Network.requestWillBeSent":
                self.requests.append(f"{given['request']['method']} {given['request']['url']}")


@contextmanager
def browsing(folder: Path, browser: str) -> Iterator[Page]:
    """A tab of a browser of its own. folder: for its profile."""
    words = [browser, *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # No pings: nothing reads between two tests, however long one of them waits for its server.
        with connect(_tab(folder, process), max_size=None, open_timeout=START_S, ping_interval=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def find_browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def _tab(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the first tab listens."""
    told = folder / "DevToolsActivePort"
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if told.is_file() and (lines := told.read_text().split()):
            with suppress(httpx.TransportError):
                tabs = httpx.get(f"http://127.0.0.1:{lines[0]}/json/list", timeout=START_S).json()
                if pages := [tab for tab in tabs if tab["type"] == "page"]:
                    return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(POLL_S)
    raise AssertionError("the browser did not start")
