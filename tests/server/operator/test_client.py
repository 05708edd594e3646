"""What the client makes of servers that are not there, say no, or are no Lethe server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from lethe_server.operator.client import AdminClient, Refused, Unreachable
from server_process import LETHE, free_port


class Answering(BaseHTTPRequestHandler):
    """Answers every request with ``said``."""

    said: tuple[int, bytes] = (200, b"")

    def do_GET(self) -> None:
        status, body = self.said
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def lethe(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LETHE, *arguments], capture_output=True, text=True, timeout=60)


def test_the_servers_own_words(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = json.dumps({"error": {"message": "module x is busy"}}).encode()
    monkeypatch.setattr(Answering, "said", (409, said))
    with AdminClient(url, "key") as client, pytest.raises(Refused, match="module x is busy") as refused:
        client.modules()
    assert refused.value.status == 409


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"error": "no"}', b"", b"\xff"])
def test_errors_of_something_else(url: str, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    monkeypatch.setattr(Answering, "said", (502, body))
    with AdminClient(url, "key") as client, pytest.raises(Refused, match="502 Bad Gateway"):
        client.modules()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"generation": "x"}', b"[{}]", b"", b"3", b"\xff\xff"])
@pytest.mark.parametrize("command", [("routes",), ("rollback", "m"), ("swap", "m", "base")])
def test_answers_of_something_else(
    url: str, monkeypatch: pytest.MonkeyPatch, body: bytes, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Answering, "said", (200, body))
    done = lethe(*command, "--url", url, "--admin-key", "key")
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert done.stderr.startswith("lethe: what is at http://127.0.0.1")
    assert len(done.stderr.splitlines()) == 1


def test_nothing_there() -> None:
    with AdminClient(f"http://127.0.0.1:{free_port()}", "key") as client, pytest.raises(Unreachable):
        client.state()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["modules", "--admin-key", "x"], 3),
        (["modules", "add", "/x", "--admin-key", "x"], 3),
        (["swap", "m", "a", "--admin-key", "x"], 3),
        (["rollback", "m", "--admin-key", "x", "--json"], 3),
        (["routes"], 2),
        (["routes", "--admin-key", ""], 2),
        (["routes", "--admin-key", "é"], 2),
        (["swap", "m", "--admin-key", "x"], 2),
        (["swap", "m", "a", "--admin-key", "x", "--canary", "0"], 2),
        (["swap", "m", "a", "--admin-key", "x", "--canary", "100"], 2),
        (["swap", "m", "a", "--admin-key", "x", "--canary", "5", "--shadow", "5"], 2),
        (["rollback", "--admin-key", "x"], 2),
    ],
)
def test_exit_codes_without_a_server(arguments: list[str], code: int) -> None:
    done = lethe(*arguments, "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == code, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("module", ["operator.modules", "operator.swap", "audit.command", "keys_cli"])
def test_commands_start_without_what_takes_seconds_to_import(module: str) -> None:
    code = f"import lethe_server.{module}, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "typer" in loaded
    assert not {"torch", "vllm", "transformers", "fastapi"} & set(loaded)


@pytest.mark.parametrize("url", ["ftp://a", "127.0.0.1:8000", "http://", "http://a:b"])
def test_urls_that_are_none(url: str) -> None:
    assert lethe("modules", "--admin-key", "x", "--url", url).returncode == 2
