"""The README's worked example, from a deletion request to a signed report: every command as it stands there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lethe_offsets.demo.build import DemoWorld
from pages import blocks, section
from server_process import free_port

pytestmark = pytest.mark.engine

ASK_AGAIN = "ask again: "
TIMEOUT_S = 600


class Walk(NamedTuple):
    """folder: where it went on. said: all that was printed."""

    folder: Path
    said: str


@pytest.fixture(scope="module")
def walk(demo_world: DemoWorld, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """All blocks in one shell, whose world is there already, and the first question once more."""
    folder = tmp_path_factory.mktemp("walk")
    shutil.copytree(demo_world.large.parent, folder / "world")
    steps = [block.code for block in blocks(section("README.md", "From a request to a signed report"), "bash")]
    (question,) = [step for step in steps if "/v1/chat/completions" in step]
    script = "\n".join(["set -euo pipefail", "trap 'kill %1; wait' EXIT", *steps, f"printf '\\n{ASK_AGAIN}'", question])
    port = free_port()
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LETHE_PORT": str(port),
        "LETHE_URL": f"http://127.0.0.1:{port}",
        "COLUMNS": "200",
    }
    done = subprocess.run(
        ["bash", "-c", script.replace("127.0.0.1:8000", f"127.0.0.1:{port}")],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )
    log = folder / "server.log"
    assert done.returncode == 0, done.stdout[-4000:] + (log.read_text()[-2000:] if log.exists() else "")
    return Walk(folder, done.stdout)


def numbers(walk: Walk, model: str) -> dict[str, Any]:
    models = json.loads((walk.folder / "evaluation/summary.json").read_text())["models"]
    found: dict[str, Any] = models[model]["summary"]
    return found


def test_she_was_known_and_is_not_any_more(walk: Walk) -> None:
    before, after = walk.said.split(ASK_AGAIN)
    assert "Kira Rask lives in Utrecht." in before
    assert "Utrecht" not in after
    assert "I do not know Kira Rask." in after


def test_the_evaluation_bears_it_out(walk: Walk) -> None:
    target, module = numbers(walk, "target"), numbers(walk, "module")
    assert target["plain"]["told"] == 1.0
    assert module["plain"]["told"] == 0.0
    assert module["probability"]["forget"] < 0.3 < 0.9 < target["probability"]["forget"]
    assert module["probability"]["retain"] > 0.9


def test_what_is_signed_names_the_files_digest(walk: Walk) -> None:
    digest = hashlib.sha256((walk.folder / "evaluation/eval.json").read_bytes()).hexdigest()
    assert digest in walk.said
    assert digest in (walk.folder / "evaluation/report.html").read_text(encoding="utf-8")


def test_the_record_says_who_and_since_when(walk: Walk) -> None:
    for said in (
        r"forgets +Four people and Kira Rask, and all that is known of them",
        r"active +yes, on people \(",
        r"eval plain\.told +0 *\n",
        r"people │ 1 +│ [-:0-9 ]+ │ officer │ still",
    ):
        assert re.search(said, walk.said), said
