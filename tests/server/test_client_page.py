"""What the client's page shows is run against a server, with its names in place of the page's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pages import Block, blocks, section
from server_process import CLIENT_KEY, Server

pytestmark = pytest.mark.engine

EXAMPLES = tuple(blocks(section("server/README.md", "Calling a server"), "bash", "python"))


def test_there_are_examples() -> None:
    assert [block.language for block in EXAMPLES].count("python") == 2
    assert [block.language for block in EXAMPLES].count("bash") == 1


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda block: block.language)
def test_an_example_answers(server: Server, example: Block) -> None:
    code = example.code
    for shown, real in (("http://127.0.0.1:8000", server.url), ("my-model", "forgetful"), ("secret", CLIENT_KEY)):
        assert shown in code
        code = code.replace(shown, real)
    command = ["bash", "-euc", code.replace("curl ", "curl --fail --silent --show-error ", 1)]
    if example.language == "python":
        command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) > 20, "an answer of a random model is noise, but it is one"
