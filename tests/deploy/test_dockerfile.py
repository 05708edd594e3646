"""The Dockerfile, as far as it can be tried without building an image."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


class Alive(BaseHTTPRequestHandler):
    """Answers /health alone."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def instructions() -> list[str]:
    """Comments left out, continued lines joined as Docker joins them."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    return [line for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines() if line]


def the(word: str) -> str:
    (found,) = [line.removeprefix(f"{word} ") for line in instructions() if line.startswith(f"{word} ")]
    return found


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_names_its_user_by_number() -> None:
    assert the("USER") == "1000:1000"
    assert any("useradd --create-home --uid 1000 lethe" in line for line in instructions())


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_extras_exist(target: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = [line for line in instructions() if line.startswith(f"ARG EXTRAS={target},")]
    assert set(asked.removeprefix("ARG EXTRAS=").split(",")) <= set(extras)
    assert {"ray", "dev"} <= set(extras)


def test_both_install_the_same_torch() -> None:
    (made,) = re.findall(r"^TORCH := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"ARG TORCH={made}" in instructions()


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [name for line in instructions() if re.match(r"COPY (?!--)", line) for name in line.split()[1:-1]]
    assert copied
    assert set(copied) == set(kept)
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("alive", [True, False])
def test_the_health_check_asks_the_servers_port(alive: bool) -> None:
    command = json.loads(the("HEALTHCHECK").partition("CMD ")[2])
    assert command[0] == "python"
    with HTTPServer(("127.0.0.1", 0), Alive) as server:
        answering = threading.Thread(target=server.serve_forever)
        answering.start()
        environment = {**os.environ, "LETHE_PORT": str(server.server_port)}
        if not alive:
            server.shutdown()
            server.socket.close()
        done = subprocess.run([sys.executable, *command[1:]], env=environment, capture_output=True, check=False)
        server.shutdown()
        answering.join()
    assert (done.returncode == 0) is alive
