"""What is found before an engine starts: run in this process, up to where the engine would be."""

from __future__ import annotations

import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kit import Kit
from lethe_offsets.cli import app
from lethe_offsets.errors import LetheError
from lethe_server.engine.service import OffsetEngine
from lethe_server.engine.spec import EngineSpec
from lethe_server.errors import StartupFailed
from lethe_server.run import NUM_FILES, allow_files, bound_socket


class EngineReached(LetheError):
    """Raised where the engine would start; holds what it was told."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__("the engine would start now")
        self.spec = spec


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    async def start(spec: EngineSpec) -> OffsetEngine:
        raise EngineReached(spec)

    monkeypatch.setattr(OffsetEngine, "start", start)
    # logging.config closes the handlers of the whole process, and absl's (of rouge-score) closes pytest's own streams.
    monkeypatch.setattr("lethe_server.logs.configure", lambda level, log_format: None)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def message(*arguments: str, **variables: str) -> str:
    """What ``lethe serve`` says when it ends."""
    result = CliRunner().invoke(app, ["serve", *arguments], env={"LETHE_PORT": "0", **variables})
    if isinstance(result.exception, LetheError):
        return str(result.exception)
    assert result.exit_code == 2, result.output
    return result.stderr


def models(kit: Kit) -> list[str]:
    return ["--model", str(kit.large), "--small-model", str(kit.small)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--allow-unprotected"),
        (["--module", "{plain}", "--route", "x=unknown"], "unknown"),
        (["--module", "{plain}", "--module", "{both}"], "--route PUBLIC=both --route PUBLIC=plain"),
        (["--module", "{plain}", "--route", "x=base"], "--allow-unprotected"),
        (["--module", "{plain}", "--route", "a b=plain"], "routes"),
        (["--module", "/nothing/there"], "/nothing/there"),
        (["--module", "{plain}", "--no-such-option"], "--no-such-option"),
        (["--module", "{plain}", "--enable-lora"], "enable_lora"),
        (["--module", "{plain}", "--max-model-len", "many"], "max-model-len"),
        (["--module", "{plain}", "--tool-call-parser", "nonesuch"], "tool_call_parser"),
        (["--module", "{plain}", "--enable-auto-tool-choice"], "tool_call_parser"),
        (["--module", "{plain}", "--reasoning-parser", "nonesuch"], "reasoning_parser"),
        (["--module", "{plain}", "--chat-template", "nothing-there.jinja"], "chat_template"),
        (["--module", "{plain}", "--host", "256.1.1.1"], "256.1.1.1"),
        (["--module", "{plain}", "--served-model-name", "a b"], "served_model_name"),
        (["--module", "{plain}", "--audit-log", "{log}"], "a sound audit log (line 1"),
        (["--allow-unprotected", "--trusted-keys", "{log}"], "trusted_keys"),
    ],
)
def test_settings_that_can_not_be(kit: Kit, arguments: list[str], said: str, tmp_path: Path) -> None:
    paths = {name: str(each.path) for name, each in kit.modules.items()}
    (log := tmp_path / "audit.jsonl").write_text("not a record\n")
    text = message(*models(kit), *(argument.format(**paths, log=log) for argument in arguments))
    assert said in text
    assert "would start" not in text


def test_everything_from_a_file_and_variables(kit: Kit, tmp_path: Path) -> None:
    config = tmp_path / "lethe.yaml"
    config.write_text(
        f"model: {kit.large}\nsmall_model: /overridden\nmodules: [{kit.modules['plain'].path}]\n"
        "engine: {dtype: float32, enforce_eager: true, max_model_len: 1}\n"
    )
    variables = {"LETHE_SMALL_MODEL": str(kit.small), "LETHE_ENGINE__MAX_MODEL_LEN": "1k"}
    result = CliRunner().invoke(app, ["serve", "--config", str(config), "--port", "0", "-tp", "2"], env=variables)
    assert isinstance(result.exception, EngineReached), result.output
    assert result.exception.spec == EngineSpec(
        model=str(kit.large),
        small_model=str(kit.small),
        served_model_name="large",
        options={"dtype": "float32", "enforce_eager": True, "max_model_len": 1000, "tensor_parallel_size": 2},
    )


def test_an_unforeseen_error_is_one_line(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(spec: EngineSpec) -> OffsetEngine:
        raise KeyError("two\nlines")

    monkeypatch.setattr(OffsetEngine, "start", start)
    # logging.config closes the handlers of the whole process, and absl's (of rouge-score) closes pytest's own streams.
    monkeypatch.setattr("lethe_server.logs.configure", lambda level, log_format: None)
    text = message(*models(kit), "--module", str(kit.modules["plain"].path))
    assert text.startswith("the server failed: KeyError")
    assert "\n" not in text


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupFailed, match=f"127.0.0.1:{port}"):
            bound_socket("127.0.0.1", port)


def test_a_free_port() -> None:
    with bound_socket("127.0.0.1", 0) as bound:
        assert bound.getsockname()[1] > 0


def test_as_many_files_as_are_allowed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
    try:
        allow_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(NUM_FILES, hard), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
