"""The documentation's code blocks, for tests that run them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Block:
    """A fenced block. before: the text since the block before it."""

    language: str
    code: str
    before: str


def section(page: str, title: str) -> str:
    """What stands below a heading, up to the next one of its level or above. page: a path below the project's root."""
    text = (ROOT / page).read_text(encoding="utf-8")
    heading = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert heading, f"{page} has no section {title!r}"
    rest = text[heading.end() :]
    # A comment in a block begins like a heading.
    prose = re.sub(r"^```.*?^```$", lambda block: "x" * len(block[0]), rest, flags=re.MULTILINE | re.DOTALL)
    following = re.search(rf"^#{{1,{len(heading[1])}}} ", prose, re.MULTILINE)
    return rest[: following.start()] if following else rest


def blocks(text: str, *languages: str) -> Iterator[Block]:
    """The fenced blocks in these languages."""
    end = 0
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if found[1] in languages:
            yield Block(found[1], found[2], text[end : found.start()])
        end = found.end()
