"""What tests of the console share: the server they look at, and the way in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from devtools import Page
from lethe_offsets.module import Module
from server_process import ADMIN_KEY, Server

EVALUATOR_KEY = "evaluator-key"
LIVE, OTHER = "live", "org/other"  # public names
FORGETS = "<img src=x onerror=document.title='run'> & what is known of Marta"
SCORES = {"plain.told": 0.011, "probability.forget": 0.25, "probability.retain": 0.9, "data": "own", "lethe": "0.1.0"}
CURVE = [{"step": 0, "forget": 0.99, "retain": 0.98}, {"step": 20, "forget": 0.05, "retain": 0.97}]
TRAINING = {"learning_rate": 0.003, "runs": [{"learning_rate": 0.003, "kept_step": 20, "scores": CURVE}]}


@dataclass(frozen=True)
class Served:
    """The server; two versions of one module, of which the second is not in the catalog at first."""

    server: Server
    first: Module
    second: Module

    def api(self, path: str) -> Any:
        with self.server.http(ADMIN_KEY) as http:
            answer = http.get(path)
        assert answer.is_success, answer.text
        return answer.json()

    def ask(self, method: str, path: str, body: Any = None) -> None:
        with self.server.http(ADMIN_KEY) as http:
            answer = http.request(method, path, json=body)
        assert answer.is_success, answer.text

    def routes(self) -> dict[str, dict[str, Any]]:
        return {each["model"]: each for each in self.api("/admin/routes")}

    def refs(self) -> set[str]:
        return {each["ref"] for each in self.api("/admin/modules")}

    def reset(self) -> None:
        """As at the start: the first version on its route, the second nowhere."""
        for model in self.routes().keys() - {LIVE, OTHER}:
            self.ask("DELETE", f"/admin/routes/{model}")
        self.ask("PUT", f"/admin/routes/{LIVE}", {"module": self.first.ref})
        if self.second.ref in self.refs():
            self.ask("DELETE", f"/admin/modules/{self.second.ref}")


def sign_in(page: Page, key: str) -> None:
    page.fill("textbox", "Key of an administrator", key)
    page.press("Enter")


def turn_to(page: Page, name: str) -> None:
    """To a page by its link, and there."""
    page.click("link", name)
    page.named("heading", name)
