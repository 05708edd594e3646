"""The demo's server: a process of ``lethe serve``, and how to talk to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lethe_offsets.demo.build import DemoWorld
from lethe_offsets.errors import LetheError

MODEL_NAME = "lethe-demo"
HOST = "127.0.0.1"
START_S = 300.0
STOP_S = 60.0
ENGINE = (
    *("--dtype", "float32"),
    *("--max-model-len", "512"),
    *("--gpu-memory-utilization", "0.3"),
    "--enforce-eager",  # nothing to gain from compiling models this small
)


def command(world: DemoWorld, port: int) -> list[str]:
    """The command line that serves the demo's model with its module."""
    return [
        *(sys.executable, "-m", "lethe_offsets.cli", "serve"),
        *("--model", str(world.large), "--small-model", str(world.small), "--module", str(world.module)),
        *("--served-model-name", MODEL_NAME, "--host", HOST, "--port", str(port)),
        *ENGINE,
    ]


@contextmanager
def serving(world: DemoWorld, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process, once it is ready; it is stopped at the end. What it prints goes to ``log``.

    Raises LetheError, with the end of the log, for a server that doesn't become ready.
    """
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1"} | os.environ  # GiB
    with log.open("wb") as out:
        process = subprocess.Popen(command(world, port), stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        _wait_until_ready(process, f"http://{HOST}:{port}/ready", log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask(port: int, question: str) -> str:
    """The served model's greedy answer."""
    body = {"model": MODEL_NAME, "messages": [{"role": "user", "content": question}], "temperature": 0}
    request = urllib.request.Request(
        f"http://{HOST}:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])


def snippets(port: int, question: str) -> str:
    """How to ask the server from a shell and from Python."""
    body = {"model": MODEL_NAME, "messages": [{"role": "user", "content": question}]}
    return f"""\
curl http://{HOST}:{port}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{json.dumps(body)}'

from openai import OpenAI

client = OpenAI(base_url="http://{HOST}:{port}/v1", api_key="none")
answer = client.chat.completions.create(
    model="{MODEL_NAME}",
    messages=[{{"role": "user", "content": "{question}"}}],
)
print(answer.choices[0].message.content)
"""


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    end = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise LetheError(f"the server did not become ready; all it printed is in {log}, which ends with:\n{end}")
