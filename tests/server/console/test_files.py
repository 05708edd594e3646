"""The console's files as they lie there, and what serves them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lethe_server.routes.console import FOLDER, TYPES

ROOT = Path(__file__).parents[3]
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in TYPES)
MAX_LINES = 200
# Ways to make markup of data, to keep a key, and to run what the policy forbids.
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|localStorage|sessionStorage|indexedDB|document\.cookie"
    r"|\beval\(|new Function|\bimport\(|https?://(?!www\.w3\.org/)"
)


def test_there_are_such_files_and_no_others() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == {path.name for path in FILES}
    assert {"index.html", "main.js", "base.css"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_short_and_does_nothing_forbidden(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert FORBIDDEN.findall(text) == []


def test_the_page_has_nothing_inline() -> None:
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL) == [""]


def test_the_page_of_the_server_names_every_file() -> None:
    named = (ROOT / "server/README.md").read_text(encoding="utf-8")
    assert [path.name for path in FILES if f"`{path.name}`" not in named] == []


def test_every_module_that_is_imported_is_there_and_used() -> None:
    names = {path.name for path in FILES}
    imported = {name for path in FILES for name in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8"))}
    assert imported <= names
    assert {name for name in names if name.endswith(".js")} == imported | {"main.js"}
