"""The demo's world behind ``lethe serve``, with a call to copy."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request

from rich.console import Console

from lethe_offsets.demo.build import DemoWorld
from lethe_offsets.demo.evaluate import read_questions

PUBLIC_NAME = "demo"
HOST = "127.0.0.1"
POLL_S = 0.5
STOP_S = 90.0

CURL = """\
curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "{question}"}}], "temperature": 0}}'"""
BASE = """\
# The large model alone, which only an admin key may ask:
curl {url}/v1/chat/completions -H 'Content-Type: application/json' -H 'Authorization: Bearer {key}' \\
    -d '{{"model": "base", "messages": [{{"role": "user", "content": "{question}"}}], "temperature": 0}}'"""
PYTHON = """\
from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="none")
answer = client.chat.completions.create(
    model="{model}", messages=[{{"role": "user", "content": "{question}"}}], temperature=0
)
print(answer.choices[0].message.content)"""


def serve_world(world: DemoWorld, port: int, console: Console) -> int:
    """Serve until interrupted; returns the server's exit code."""
    key = secrets.token_urlsafe(12)
    url = f"http://{HOST}:{port}"
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR", **os.environ}
    server = subprocess.Popen(_command(world, port), env={**environment, "LETHE_ADMIN_KEYS": key})
    try:
        with console.status("Starting the server"):
            ready = _wait_until_ready(server, url)
        if ready:
            question = next(q.question for q in read_questions(world.facts) if q.split == "forget")
            _print_calls(console, url, question, key)
        return server.wait()
    except KeyboardInterrupt:  # the terminal has sent it to the server too
        return server.wait(STOP_S)
    finally:
        if server.poll() is None:
            server.terminate()
            server.wait(STOP_S)


def _command(world: DemoWorld, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "lethe_offsets.cli", "serve"),
        *("--model", str(world.large), "--small-model", str(world.small), "--module", str(world.module)),
        *("--served-model-name", PUBLIC_NAME, "--host", HOST, "--port", str(port)),
        *("--dtype", "float32", "--max-model-len", "256", "--enforce-eager"),
    ]


def _wait_until_ready(server: subprocess.Popen[bytes], url: str) -> bool:
    """False when the server ended instead."""
    while server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_S)
    return False


def _print_calls(console: Console, url: str, question: str, key: str) -> None:
    values = {"url": url, "model": PUBLIC_NAME, "question": question, "key": key}
    console.print(f"\nServing on {url}; ctrl-C stops it. Ask about somebody who was forgotten:\n")
    for text in (CURL, BASE, PYTHON):
        # To be copied: long lines must neither be cut nor broken.
        console.print(text.format(**values), "", sep="\n", soft_wrap=True, markup=False, highlight=False)
