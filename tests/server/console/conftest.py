"""One server and one browser for all tests of the console."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import yaml

import tiny
from console_steps import EVALUATOR_KEY, FORGETS, LIVE, OTHER, SCORES, TRAINING, Served, sign_in
from devtools import Page, browsing, find_browser
from kit import Kit
from lethe_offsets.create import create_module
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_server.auth import key_digest
from server_process import ADMIN_KEY, serving

REFUSED = re.compile(r"the server responded with a status of 4\d\d")  # a browser complains of every such answer


@pytest.fixture(scope="package")
def versions(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> list[Module]:
    root = tmp_path_factory.mktemp("versions")
    made = []
    for number in (1, 2):
        plus = tiny.random_adapter(kit.small, root / f"adapter{number}", rank=4, seed=200 + number)
        training = {"training.json": json.dumps(TRAINING).encode()}
        facts = {"version": str(number), "description": FORGETS, "rule": Rule(strength=1.0 / number)}
        made.append(
            create_module("people", kit.small, plus=plus, out=root / f"version{number}", extras=training, **facts)
        )
        (made[-1].path / "eval.json").write_text(json.dumps(SCORES))
    return made


@pytest.fixture(scope="package")
def served(kit: Kit, versions: list[Module], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("console")
    keys = folder / "keys.yaml"
    entry = {"name": "eve", "role": "evaluator", "hash": f"sha256:{key_digest(EVALUATOR_KEY).hex()}"}
    keys.write_text(yaml.safe_dump({"keys": [entry]}))
    keys.chmod(0o600)
    first, second = versions
    modules = ["--module", str(first.path), "--module", str(kit.modules["plain"].path)]
    routes = ["--route", f"{LIVE}=people", "--route", f"{OTHER}=plain"]
    files = ["--audit-log", str(folder / "audit.jsonl"), "--keys-file", str(keys)]
    with serving(folder, kit, [*modules, *routes, *files]) as server:
        yield Served(server, first, second)


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    found = find_browser()
    if found is None:
        pytest.skip("no chromium is installed")
    with browsing(tmp_path_factory.mktemp("profile"), found) as page:
        yield page


@pytest.fixture
def opened(browser: Page, served: Served) -> Iterator[Page]:
    """The console before anybody has signed in. Whatever is done then, the browser complains of nothing."""
    served.reset()
    browser.complaints.clear()
    browser.requests.clear()
    browser.look(1280)
    browser.go(f"{served.server.url}/console")
    yield browser
    assert [each for each in browser.complaints if not REFUSED.search(each)] == []


@pytest.fixture
def page(opened: Page) -> Page:
    """An administrator's console, at the modules."""
    sign_in(opened, ADMIN_KEY)
    opened.named("heading", "Modules")
    return opened
