"""Servers that must not start, each with one readable message, and how a server ends."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import tiny
from kit import Kit
from lethe_offsets.create import create_module
from server_process import ADMIN_KEY, command, environment, serving
from warm_processes import WarmCommand

pytestmark = pytest.mark.engine


def ended(arguments: list[str], cwd: Path) -> tuple[int, list[str]]:
    """The exit code of a command that ends by itself, and what it says on standard error; the last line is ours."""
    errors = cwd / "errors"
    process = WarmCommand(arguments, cwd, environment(), cwd / "out", errors)
    try:
        code = process.wait(180)
    finally:
        process.kill()
    lines = errors.read_text().strip().splitlines()
    assert lines, code
    assert lines[-1].startswith("lethe"), lines[-40:]
    return code, lines


def fails(arguments: list[str], cwd: Path) -> str:
    """The one line of a command that must end by itself, without a stack trace."""
    code, lines = ended(arguments, cwd)
    assert code in (1, 2), (code, lines[-40:])
    assert not [line for line in lines if line.startswith("Traceback")], lines[-40:]
    return lines[-1]


@pytest.fixture(scope="module")
def module(kit: Kit) -> list[str]:
    return ["--module", str(kit.modules["plain"].path)]


def test_a_tokenizer_that_differs(kit: Kit, module: list[str], tmp_path: Path) -> None:
    small = tiny.build_small(tmp_path / "small", seed=0)
    tokens = tiny.tokenizer(vocab_size=300)
    tokens.save_pretrained(small)
    said = fails(command(kit, *module, "--small-model", str(small)), tmp_path)
    assert "small_model" in said
    assert "token" in said


@pytest.mark.parametrize("option", ["--model", "--small-model", "--module"])
def test_a_directory_that_is_missing(kit: Kit, module: list[str], tmp_path: Path, option: str) -> None:
    missing = str(tmp_path / "nothing-there")
    arguments = ["--module", missing] if option == "--module" else [*module, option, missing]
    assert missing in fails(command(kit, *arguments), tmp_path)


def test_a_model_without_weights(kit: Kit, module: list[str], tmp_path: Path) -> None:
    hollow = shutil.copytree(kit.large, tmp_path / "hollow")
    for file in hollow.glob("*.safetensors"):
        file.unlink()
    code, lines = ended(command(kit, *module, "--model", str(hollow)), tmp_path)
    assert code == 1
    assert lines[-1].startswith("lethe: the engine did not start")


def test_a_port_that_is_taken(kit: Kit, module: list[str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}" in fails(command(kit, *module, "--port", port), tmp_path)


def test_a_changed_byte(kit: Kit, tmp_path: Path) -> None:
    changed = shutil.copytree(kit.modules["plain"].path, tmp_path / "changed")
    weights = changed / "plus" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    assert "SHA256SUMS" in fails(command(kit, "--module", str(changed)), tmp_path)


def test_a_module_for_other_models(kit: Kit, tmp_path: Path) -> None:
    other = tiny.build_small(tmp_path / "other-small", seed=77, hidden=96)
    plus = tiny.random_adapter(other, tmp_path / "plus", rank=4)
    made = create_module("other", other, plus=plus, out=tmp_path / "other")
    assert "small_model" in fails(command(kit, "--module", str(made.path)), tmp_path)


def test_a_signal_while_the_engine_starts(kit: Kit, module: list[str]) -> None:
    process = subprocess.Popen(
        command(kit, *module, "--port", "0"), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    parent = psutil.Process(process.pid)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        children = parent.children(recursive=True)
        if any("vllm" in " ".join(child.cmdline()).lower() for child in children):
            break
        time.sleep(0.2)
    time.sleep(1)  # until it waits for the engine
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert not psutil.wait_procs(children, timeout=10)[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_streams_finish_and_ends_cleanly(
    kit: Kit, module: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    with serving(tmp_path, kit, module, cold=number == signal.SIGTERM) as server:
        stream: Any = server.openai(ADMIN_KEY).completions.create(
            model="large", prompt="One", max_tokens=200, stream=True, extra_body={"ignore_eos": True}
        )
        first = next(iter(stream))
        stopper = threading.Timer(0, server.process.send_signal, [number])
        stopper.start()
        chunks = [first, *stream]
        assert chunks[-1].choices[0].finish_reason == "length"
        assert server.process.wait(60) == 0
        assert not [line for line in server.log.read_text().splitlines() if line.startswith("Traceback")]
