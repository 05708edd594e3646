"""Engines and servers that are killed, clients that are slow, silent or greedy, disks that are full."""

from __future__ import annotations

import json
import resource
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from kit import Kit
from server_process import ADMIN_KEY, CLIENT_KEY, ENOUGH_S, Server, serving, wait_for

pytestmark = pytest.mark.engine
ASK: dict[str, Any] = {"model": "public", "prompt": "One, two", "max_tokens": 4}
LONG: dict[str, Any] = {"model": "public", "prompt": "One, two", "max_tokens": 240, "ignore_eos": True}
MUCH = {"model": "public", "prompt": [[5] * 240] * 48, "echo": True, "logprobs": 20, "max_tokens": 1, "stream": True}
HEAD = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {CLIENT_KEY}\r\n"
NUM_IDLE = 1000  # connections
MAX_GROWTH = 100 * 2**20  # bytes


@pytest.fixture(scope="module", autouse=True)
def _files() -> Iterator[None]:
    """A connection is a file of this process too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def first(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> LastWords:
    """A server whose engine was killed in the midst of everything."""
    folder = tmp_path_factory.mktemp("first")
    with (
        serving(folder, kit, ["--state-dir", str(folder / "state"), *declaring(kit)], cold=True) as server,
        ThreadPoolExecutor() as pool,
    ):
        with server.http(ADMIN_KEY) as http:
            assert http.put("/admin/routes/public", json={"module": "both"}).is_success
        return LastWords(server, kit, pool, folder / "state")


@pytest.fixture(scope="module")
def server(kit: Kit, first: LastWords, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As its supervisor starts it again, with what the first one left."""
    folder = tmp_path_factory.mktemp("again")
    state = ["--state-dir", str(first.state), "--module-source", str(kit.modules["plain"].path.parent)]
    record = ["--audit-log", str(folder / "audit.jsonl")]
    with serving(folder, kit, [*state, *record, "--drain-timeout", "1"], cold=True) as running:
        yield running


def declaring(kit: Kit) -> list[str]:
    modules = [argument for name in ("plain", "both") for argument in ("--module", str(kit.modules[name].path))]
    return [*modules, "--route", "public=plain"]


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == status
    return error


@contextmanager
def bounded(server: Server) -> Iterator[None]:
    """What happens within the block leaves the server's memory nearly as it was, and hardly grows it meanwhile."""
    process = psutil.Process(server.process.pid)
    before, most, done = process.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.05):
            most = max(most, process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
    assert most - before < MAX_GROWTH


def connection(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=ENOUGH_S)


class LastWords:
    """What a server says whose engine is killed while a stream has begun, and an answer and a change wait."""

    def __init__(self, server: Server, kit: Kit, pool: ThreadPoolExecutor, state: Path) -> None:
        self.state = state
        self.answered_by = server.answered_by("public")
        left, began = server.processes(), threading.Event()
        engine = next(each for each in left if "EngineCore" in each.name())
        stream = pool.submit(self._stream, server, began)
        assert began.wait(ENOUGH_S)
        engine.suspend()
        source = {"source": str(kit.modules["ranked"].path)}
        waiting = [
            pool.submit(self._post, server, "/v1/completions", LONG, CLIENT_KEY),
            pool.submit(self._post, server, "/admin/modules", source, ADMIN_KEY),
        ]
        wait_for(lambda: server.metric("lethe_inflight_requests") == 2)
        engine.kill()
        with server.http() as http:
            wait_for(lambda: http.get("/ready").status_code != 200)
            self.probed = [http.get(path) for path in ("/ready", "/health")]
            self.refused = http.post("/v1/completions", json=ASK)
        self.ready = server.metric("lethe_ready ")
        self.waiting = [each.result(ENOUGH_S) for each in waiting]
        self.stream = stream.result(ENOUGH_S)
        self.exit_code = server.process.wait(ENOUGH_S)
        self.left = psutil.wait_procs(left, timeout=ENOUGH_S)[1]
        self.log = server.log.read_text().splitlines()

    @staticmethod
    def _stream(server: Server, began: threading.Event) -> list[str]:
        body = {**LONG, "stream": True}
        with server.http() as http, http.stream("POST", "/v1/completions", json=body) as response:
            lines = response.iter_lines()
            events = [next(lines)]
            began.set()
            return [line.removeprefix("data: ") for line in [*events, *lines] if line]

    @staticmethod
    def _post(server: Server, path: str, body: Any, key: str) -> httpx.Response:
        with server.http(key) as http:
            return http.post(path, json=body)


def test_a_server_whose_engine_is_killed_says_so_and_ends(first: LastWords) -> None:
    for response in (*first.probed, *first.waiting, first.refused):
        error = error_of(response, 503)
        assert "the engine died" in error["message"]
        assert error["type"] == "ServiceUnavailableError"
        assert response.headers["retry-after"]
    assert first.ready == 0
    *tokens, last, done = first.stream
    assert done == "[DONE]"
    assert all(json.loads(token)["choices"][0]["finish_reason"] is None for token in tokens)
    error = json.loads(last)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert "the engine died" in error["message"]
    assert first.exit_code == 1
    assert first.log[-1].startswith("lethe: the engine died: EngineCore was ended by SIGKILL")
    assert first.left == []


def test_it_comes_back_with_the_same_routes(first: LastWords, server: Server) -> None:
    assert server.answered_by("public") == first.answered_by


def stall(server: Server, client: socket.socket) -> None:
    """Ask for more than the kernel's buffers hold and take nothing of it."""
    body = json.dumps(MUCH)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = HEAD.replace(CLIENT_KEY, ADMIN_KEY)
    client.sendall(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
    wait_for(lambda: server.metric("lethe_inflight_requests"))
    wait_for(lambda: not server.metric("vllm:num_requests_running"))  # the engine waits for nobody


def test_a_client_that_takes_nothing_holds_up_nobody(server: Server) -> None:
    with bounded(server), connection(server) as stalled:
        stall(server, stalled)
        for _ in range(3):
            assert server.post("/v1/completions", ASK)["choices"][0]["text"]
        assert server.metric("lethe_inflight_requests") == 1
        stalled.close()
        wait_for(lambda: not server.metric("lethe_inflight_requests"))


def test_a_thousand_connections_that_are_not_used(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    assert process.rlimit(psutil.RLIMIT_NOFILE)[0] > NUM_IDLE
    files = process.num_fds()
    parts = ("", "POST /v1/comp", HEAD, f'{HEAD}content-type: application/json\r\ncontent-length: 50\r\n\r\n{{"model"')
    with bounded(server), ExitStack() as opened:
        for number in range(NUM_IDLE):
            opened.enter_context(connection(server)).sendall(parts[number % len(parts)].encode())
        wait_for(lambda: process.num_fds() > NUM_IDLE)
        for _ in range(3):
            assert server.post("/v1/completions", ASK)["choices"][0]["text"]
        assert server.metric("lethe_inflight_requests") == 0
    wait_for(lambda: process.num_fds() < files + 10)


def test_bodies_that_are_far_too_large(server: Server) -> None:
    piece = b"x" * 2**20
    announced = HEAD.encode() + b"content-length: %d\r\n\r\n" % 2**31
    chunked = HEAD.encode() + b"transfer-encoding: chunked\r\n\r\n"
    for head, chunk in ((announced, piece), (chunked, b"%x\r\n%s\r\n" % (len(piece), piece))):
        with bounded(server), connection(server) as client:
            client.sendall(head)
            for _ in range(300):
                client.sendall(chunk)
            assert client.recv(100).startswith(b"HTTP/1.1 413 ")
    assert server.post("/v1/completions", ASK)["choices"][0]["text"]


def test_a_disk_that_is_full_refuses_changes_and_nothing_else(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    unlimited = process.rlimit(psutil.RLIMIT_FSIZE)
    served = server.answered_by("public")
    with server.http(ADMIN_KEY) as http:
        process.rlimit(psutil.RLIMIT_FSIZE, (10, unlimited[1]))  # of each file that it writes, its log's too
        try:
            refused = http.put("/admin/routes/public", json={"module": "plain"})
            assert error_of(refused, 503)["type"] == "ServiceUnavailableError"
            assert server.answered_by("public") == served
            assert http.get("/ready").status_code == 200
        finally:
            process.rlimit(psutil.RLIMIT_FSIZE, unlimited)
        assert http.put("/admin/routes/public", json={"module": "plain"}).is_success
        assert server.answered_by("public") != served


def test_no_more_than_the_grace_period_is_waited_for(server: Server) -> None:
    """The last one: it ends the server."""
    left = server.processes()
    with connection(server) as stalled:
        stall(server, stalled)
        assert server.stop() == 0
    assert psutil.wait_procs(left, timeout=ENOUGH_S)[1] == []
    assert not [line for line in server.log.read_text().splitlines() if line.startswith("Traceback")]
