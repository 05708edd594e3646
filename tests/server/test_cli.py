from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import lethe_server.run
from lethe_offsets.cli import app
from lethe_offsets.errors import LetheError
from lethe_server.cli import EXAMPLES
from lethe_server.settings import Settings

MODELS = ["--model", "large", "--small-model", "small"]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings with which the server would have run."""
    seen: list[Settings] = []
    for variable in ("PYTHONWARNINGS", "VLLM_WORKER_MULTIPROC_METHOD"):  # set for the engine's processes
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(lethe_server.run, "run", seen.append)
    return seen


def serve(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["serve", *arguments])


def test_every_option_reaches_the_settings(served: list[Settings]) -> None:
    arguments = [
        "--module",
        "/m/a",
        "--module",
        "/m/b",
        "--route",
        "x=a",
        "--route",
        "y/z=b",
        "--host",
        "h",
        "--port",
        "1",
    ]
    arguments += [
        "--api-key",
        "k1",
        "--api-key",
        "k2",
        "--admin-key",
        "k3",
        "--module-dir",
        "/m",
        "--module-source",
        "s3://bucket/modules",
        "--trusted-keys",
        "/key.pem",
        "--keys-file",
        "/keys.yaml",
        "--client-max-logprobs",
        "0",
        "--audit-log",
        "/audit.jsonl",
        "--state-dir",
        "/state",
        "--cache-dir",
        "/cache",
        "--allow-unprotected",
    ]
    arguments += [
        "--drain-timeout",
        "2",
        "--max-body-bytes",
        "3",
        "--max-modules-per-batch",
        "5",
        "--max-resident-modules",
        "7",
        "--max-module-rank",
        "6",
        "--max-offsets-per-request",
        "3",
    ]
    assert serve(*MODELS, *arguments).exit_code == 0
    (settings,) = served
    assert settings.modules == (Path("/m/a"), Path("/m/b"))
    assert settings.routes == {"x": "a", "y/z": "b"}
    assert (settings.host, settings.port, settings.allow_unprotected) == ("h", 1, True)
    assert [key.get_secret_value() for key in (*settings.api_keys, *settings.admin_keys)] == ["k1", "k2", "k3"]
    assert settings.module_sources == ("/m", "s3://bucket/modules")
    assert settings.trusted_keys == (Path("/key.pem"),)
    assert (settings.keys_file, settings.audit_log) == (Path("/keys.yaml"), Path("/audit.jsonl"))
    assert (settings.client_max_logprobs, settings.max_resident_modules) == (0, 7)
    assert (settings.state_dir, settings.cache) == ("/state", Path("/cache"))
    assert (settings.drain_timeout_s, settings.max_body_bytes) == (2.0, 3)
    assert (settings.max_modules_per_batch, settings.max_module_rank, settings.max_offsets_per_request) == (5, 6, 3)


def test_engine_options_pass_through_between_ours(served: list[Settings]) -> None:
    result = serve("--dtype", "float32", *MODELS, "--enforce-eager", "-tp", "2", "--port", "9", "--max-model-len=64")
    assert result.exit_code == 0, result.output
    assert served[0].engine == {
        "dtype": "float32",
        "enforce_eager": True,
        "tensor_parallel_size": "2",
        "max_model_len": "64",
    }
    assert served[0].port == 9


def test_port_0_is_a_value(served: list[Settings]) -> None:
    assert serve(*MODELS, "--port", "0").exit_code == 0
    assert served[0].port == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "model"),
        ([*MODELS, "--no-such-option"], "--no-such-option"),
        ([*MODELS, "stray"], "stray"),
        ([*MODELS, "--port", "70000"], "port"),
        ([*MODELS, "--route", "x"], "PUBLIC=NAME"),
        ([*MODELS, "--config", "/no/such.yaml"], "/no/such.yaml"),
    ],
)
def test_usage_error_is_one_line(served: list[Settings], arguments: list[str], said: str) -> None:
    result = serve(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert result.stderr.strip().count("\n") == 0
    assert not served


def test_a_failed_start_is_told_by_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(settings: Any) -> None:
        raise LetheError("no engine today")

    monkeypatch.setattr(lethe_server.run, "run", failing)
    result = serve(*MODELS)
    assert isinstance(result.exception, LetheError)


def test_help_names_settings_and_defaults() -> None:
    text = serve("--help").output
    for expected in ("--small-model", "--admin-key", "8000", "127.0.0.1", "LETHE_MODEL"):
        assert expected in text


def test_examples_in_the_help_are_settings(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lethe.yaml").write_text("model: large\nsmall_model: small\n")
    commands = [shlex.split(line) for line in EXAMPLES.replace("\\\n", "").strip().splitlines() if line]
    assert len(commands) == 2
    for command in commands:
        result = serve(*command[2:])
        assert result.exit_code == 0, result.output
    assert served[0].modules == (Path("modules/forget-marta"),)
    assert served[1].engine == {"max_model_len": "4096", "dtype": "bfloat16"}
