"""``lethe serve``: a process, a port, keys."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from openai import AsyncOpenAI, OpenAI

from kit import Kit
from warm_processes import WarmCommand

CLIENT_KEY = "client-key"
ADMIN_KEY = "admin-key"
ENGINE = (
    "--dtype",
    "float32",
    "--max-model-len",
    "256",
    "--enforce-eager",
    "--block-size",
    "32",
    "--max-num-seqs",
    "32",
)
# For a server whose memory is looked at: else the C library keeps what large blocks held, and oneDNN the compiled
# kernels of 1,024 shapes of batches.
LITTLE_CACHED = {"MALLOC_MMAP_THRESHOLD_": "65536", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32"}
START_S = 180.0
ENOUGH_S = 30.0  # for what takes no time
LETHE = str(Path(sys.executable).with_name("lethe"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment() -> dict[str, str]:
    return {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}


def command(kit: Kit, *arguments: str) -> list[str]:
    """A command that serves the kit's models."""
    return [LETHE, "serve", "--model", str(kit.large), "--small-model", str(kit.small), *ENGINE, *arguments]


@dataclass(frozen=True)
class Server:
    """A running server. log: what it has printed so far. clients: by key; closed when the server is stopped."""

    url: str
    log: Path
    process: subprocess.Popen[bytes] | WarmCommand
    clients: dict[str, OpenAI] = field(default_factory=dict)

    def openai(self, key: str = CLIENT_KEY) -> OpenAI:
        if key not in self.clients:
            self.clients[key] = OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)
        return self.clients[key]

    def async_openai(self, key: str = CLIENT_KEY) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)

    def http(self, key: str | None = CLIENT_KEY) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)

    def post(self, path: str, body: Any, key: str | None = CLIENT_KEY) -> Any:
        """The JSON answer to a request that must succeed."""
        with self.http(key) as http:
            response = http.post(path, json=body)
        assert response.is_success, response.text
        return response.json()

    def answered_by(self, model: str) -> str:
        """The module that answers for a public name now."""
        with self.http(ADMIN_KEY) as http:
            response = http.post("/v1/completions", json={"model": model, "prompt": "One, two, three", "max_tokens": 2})
        assert response.is_success, response.text
        return str(response.headers["x-lethe-module"])

    def metric(self, series: str) -> float:
        """The sum of the series that begin so: with a name, or a name and labels."""
        with self.http(ADMIN_KEY) as http:
            lines = http.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))

    def processes(self) -> list[psutil.Process]:
        """Those that the server has started, and theirs; it must have been started cold to have them for children."""
        assert isinstance(self.process, subprocess.Popen)
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def serving(
    folder: Path,
    kit: Kit,
    arguments: Sequence[str],
    within: Sequence[str] = (),
    cold: bool = False,
    **variables: str,
) -> Iterator[Server]:
    """A server that is ready, with both keys. within: a command that runs it. variables: of its environment.

    cold: started as users do, as it is with the two before too, and not forked.
    """
    port = free_port()
    log = folder / f"server-{port}.log"
    keys = ("--api-key", CLIENT_KEY, "--admin-key", ADMIN_KEY, "--port", str(port))
    words = [*within, *command(kit, *keys, *arguments)]
    process: subprocess.Popen[bytes] | WarmCommand
    if cold or within or variables:
        with log.open("wb") as out:
            process = subprocess.Popen(
                words, stdout=out, stderr=subprocess.STDOUT, cwd=folder, env={**environment(), **variables}
            )
    else:
        process = WarmCommand(words, folder, environment(), log)
    server = Server(f"http://127.0.0.1:{port}", log, process)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        for client in server.clients.values():
            client.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            if httpx.get(f"{server.url}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"the server did not start:\n{server.log.read_text()[-4000:]}")


def wait_for(condition: Callable[[], object]) -> None:
    """Until it holds, of something that follows at once but not at the same moment."""
    deadline = time.monotonic() + ENOUGH_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
