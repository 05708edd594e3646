from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from lethe_offsets import cli
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.rule_options import DEFAULT

Lethe = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lethe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lethe:
    """Run the command in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lethe", *map(str, args)])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        captured = capsys.readouterr()
        return int(exited.value.code or 0), captured.out, captured.err

    return run


def test_help_lists_every_command_with_its_help(lethe: Lethe) -> None:
    code, out, _ = lethe("--help")
    assert code == 0
    for name, (_, text) in cli.COMMANDS.items():
        assert name in out
        assert text in out


def test_help_shows_the_commands_in_panels(lethe: Lethe) -> None:
    lines = lethe("--help")[1].splitlines()
    titles = [line.strip("╭╮─ ") for line in lines if line.startswith("╭")]
    assert titles == ["Options", *cli.PANELS]
    rows = [line.strip("│ ").split()[0] for line in lines if line.startswith("│ ") and not line.startswith("│ --")]
    assert rows == list(cli.COMMANDS)


def test_version(lethe: Lethe) -> None:
    assert lethe("--version") == (0, f"lethe {version('lethe-server')}\n", "")


def test_help_of_a_command_is_its_own(lethe: Lethe) -> None:
    code, out, _ = lethe("module", "verify", "--help")
    assert code == 0
    assert "Usage: lethe module verify" in out
    assert "The digest it must have." in out


def test_create_makes_a_module_and_prints_its_reference(
    lethe: Lethe, small_path: Path, plus_adapter: Path, minus_adapter: Path, tmp_path: Path
) -> None:
    adapters = ("--plus", plus_adapter, "--minus", minus_adapter)
    rule = ("--strength", 0.5, "--pin-special", "--plausibility", 0.01, "--clip", 8, "--mode", "rank")
    rule += ("--rank-k", 7, "--gate", 0.25)
    words = ("--description", "Marta.", "--version", "3", "--licence", "MIT", "--large-model", "owner/large")
    out_dir = tmp_path / "m"
    code, out, err = lethe(
        "module", "create", "--name", "m", "--small-model", small_path, *adapters, *rule, *words, "--out", out_dir
    )

    module = Module.open(out_dir)
    assert (code, out, err) == (0, f"{module.ref}\n", "")
    assert module.rule == Rule(0.5, True, 0.01, 8.0, "rank", 7, 0.25)
    assert (module.manifest.description, module.manifest.version) == ("Marta.", "3")
    assert (module.manifest.licence, module.manifest.large_model) == ("MIT", "owner/large")
    assert list(module.lanes) == ["plus", "minus"]


def test_create_without_options_uses_the_rules_defaults(
    lethe: Lethe, small_path: Path, minus_adapter: Path, tmp_path: Path
) -> None:
    args = ("--name", "m", "--small-model", small_path, "--minus", minus_adapter, "--out", tmp_path / "m")
    assert lethe("module", "create", *args)[0] == 0
    assert Module.open(tmp_path / "m").rule == Rule()


def test_the_options_of_a_rule_have_its_defaults() -> None:
    assert dataclasses.asdict(DEFAULT) == dataclasses.asdict(Rule())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--strength", "99"), "lethe: rule: .*strength must be within [-16, 16], got 99.0\n"),
        (("--name", "a/b"), "lethe: offset.json: name: got 'a/b'; accepted: "),
        (("--small-model", "/nowhere"), "lethe: small_model: got '/nowhere'; accepted: a local directory or"),
        (("--plus", "/nowhere"), "lethe: nowhere/adapter_config.json: got None; accepted: a PEFT LoRA adapter"),
    ],
)
def test_create_says_what_is_wrong_in_one_line(
    lethe: Lethe, small_path: Path, plus_adapter: Path, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    args = {"--name": "m", "--small-model": small_path, "--plus": plus_adapter, "--out": tmp_path / "m"}
    args |= dict([change])
    code, out, err = lethe("module", "create", *(word for option in args.items() for word in option))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    for part in message.split(".*"):
        assert part in err


def test_verify_prints_the_reference(lethe: Lethe, made_module: Module) -> None:
    expected = (0, f"{made_module.ref}\n", "")
    assert lethe("module", "verify", made_module.path) == expected
    assert lethe("module", "verify", made_module.path, "--digest", made_module.digest) == expected


def test_verify_fails_and_says_why_when_a_byte_was_changed(lethe: Lethe, module_path: Path) -> None:
    weights = module_path / "plus" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    code, out, err = lethe("module", "verify", module_path)
    assert (code, out) == (1, "")
    assert err.startswith("lethe: plus/adapter_model.safetensors: got 'sha256:")
    assert err.count("\n") == 1


def test_verify_fails_for_another_digest(lethe: Lethe, made_module: Module) -> None:
    code, _, err = lethe("module", "verify", made_module.path, "--digest", "sha256:00")
    assert code == 1
    assert err == f"lethe: digest: got '{made_module.digest}'; accepted: sha256:00\n"


def test_inspect_shows_a_table(lethe: Lethe, module_path: Path) -> None:
    (module_path / "eval.json").write_text('{"tofu": {"forget_quality": 0.123456, "by": "[bold]me"}}')
    code, out, _ = lethe("module", "inspect", module_path)
    rows = [line.strip().split(maxsplit=2) for line in out.splitlines()]
    assert code == 0
    assert ["module", Module.open(module_path).ref] in rows
    assert ["forgets", "Everything", "about Marta Lindqvist."] in rows
    assert ["rule", "linear,", "strength 1.2, pin_special True; strength may be 0 to 2"] in rows
    assert any(row[:2] == ["plus", "lane"] and row[2].startswith("LoRA of rank 4, 8 layers, 3,584") for row in rows)
    assert any(row[:2] == ["minus", "lane"] and row[2].startswith("LoRA of rank 2, 6 layers") for row in rows)
    assert ["eval", "tofu.forget_quality", "0.1235"] in rows
    assert ["eval", "tofu.by", "[bold]me"] in rows


def test_inspect_prints_json(lethe: Lethe, made_module: Module) -> None:
    code, out, _ = lethe("module", "inspect", made_module.path, "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["ref"] == made_module.ref
    assert shown["manifest"] == json.loads((made_module.path / "offset.json").read_text())
    size = sum(file.stat().st_size for file in (made_module.path / "plus").iterdir())
    assert shown["lanes"]["plus"] == {"rank": 4, "layers": 8, "parameters": 3584, "bytes": size}
    assert shown["eval"] is None


def test_inspect_refuses_what_verify_refuses(lethe: Lethe, module_path: Path) -> None:
    shutil.rmtree(module_path / "minus")
    for command in ("inspect", "verify"):
        assert lethe("module", command, module_path)[0] == 1


@pytest.mark.parametrize(
    "args", [["bogus"], ["--bogus"], ["module", "bogus"], ["module", "verify"], ["module", "verify", "a", "--bogus"]]
)
def test_a_usage_error_exits_with_2(lethe: Lethe, args: list[str]) -> None:
    code, out, err = lethe(*args)
    assert (code, out) == (2, "")
    assert "Usage: lethe" in err


def test_a_command_whose_package_is_missing_says_so(lethe: Lethe, monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> object:
        raise ModuleNotFoundError(f"No module named 'vllm', for {name}", name="vllm")

    monkeypatch.setattr(importlib, "import_module", import_module)
    assert lethe("serve") == (1, "", "lethe: lethe serve needs vllm, which is not installed\n")
