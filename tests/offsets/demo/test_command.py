"""``lethe demo`` from its command line to its server's."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from lethe_offsets.demo import serving
from lethe_offsets.demo.build import DemoWorld
from lethe_offsets.demo.evaluate import Question, Score, exact_matches
from lethe_offsets.errors import LetheError

SHOW_HELP = """
import sys
from lethe_offsets.cli import app
try:
    app(["demo", "--help"])
except SystemExit:
    print("torch" in sys.modules)
"""
WORLD = DemoWorld(*(Path("/demo") / name for name in ("large", "small", "module", "facts", "paraphrases")))


def test_help_names_every_option_without_importing_torch() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW_HELP], capture_output=True, text=True, check=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert all(option in plain for option in ("--build-only", "--fresh", "--port", "--cache-dir"))
    assert plain.splitlines()[-1] == "False"


def test_the_server_is_lethe_serve_on_this_machine_only() -> None:
    words = serving.command(WORLD, 8123)
    assert words[:4] == [sys.executable, "-m", "lethe_offsets.cli", "serve"]
    given = dict(pairwise(words[4:]))
    assert given["--model"] == "/demo/large"
    assert given["--small-model"] == "/demo/small"
    assert given["--module"] == "/demo/module"
    assert (given["--host"], given["--port"]) == ("127.0.0.1", "8123")


def test_the_snippets_are_a_command_and_a_program() -> None:
    shell, _, program = serving.snippets(8123, "Where does Mira Foss live?").partition("\n\n")
    words = shlex.split(shell.replace("\\\n", " "))
    assert words[:2] == ["curl", "http://127.0.0.1:8123/v1/chat/completions"]
    assert json.loads(words[words.index("-d") + 1])["messages"][0]["content"] == "Where does Mira Foss live?"
    assert "Where does Mira Foss live?" in ast.unparse(ast.parse(program))


def test_a_server_that_ends_is_reported_with_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serving, "command", lambda world, port: [sys.executable, "-c", "print('no room')"])
    with pytest.raises(LetheError, match="no room"), serving.serving(WORLD, 8123, tmp_path / "log"):
        pass


def test_only_exact_answers_count() -> None:
    questions = [
        Question("A", "a?", "A lives in Oslo.", "forget"),
        Question("B", "b?", "B lives in Graz.", "retain"),
        Question("C", "c?", "C lives in York.", "retain"),
    ]
    answers = {"a?": "A lives in Oslo", "b?": " B lives in Graz.\n", "c?": "C lives in york."}
    scores = exact_matches(questions, answers.__getitem__)
    assert scores == {"forget": Score(0, 1), "retain": Score(1, 2)}
    assert scores["retain"].share == 0.5
