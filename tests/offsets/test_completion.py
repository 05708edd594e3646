"""Completion by a shell: in a real bash, and as zsh and fish ask for it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lethe_offsets import cli

# Defines the completion as the README says, then asks for the last of the words, as a TAB after it does.
ASK = r"""
eval "$(lethe --show-completion)"
complete -p lethe
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _lethe_completion lethe; echo "${COMPREPLY[@]}"; }
ask lethe tra
ask lethe mod
ask lethe train --meth
ask lethe train --method np
ask lethe module ver
ask lethe audit report --mo
ask lethe keys add keys.yaml --role ''
ask lethe serve --max-model-len 4096 --pair-dtype b
ask lethe train --forget ./fo
ask lethe nothing --x
"""
WORDS = [
    "complete -o default -F _lethe_completion lethe",
    "train",
    "module modules",
    "--method",
    "npo",
    "verify",
    "--module",
    "client monitor evaluator admin",
    "bfloat16",
    "",  # bash goes on with the names of files
    "",
]


def asked(line: str, shell: str) -> dict[str, str]:
    """The environment in which a shell runs ``lethe`` to complete ``line``."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_TYPER_COMPLETE_ARGS": line}
    return {"_LETHE_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args", **words}


def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    script = bin_dir / "lethe"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lethe_offsets.cli "$@"\n')
    script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "--norc", "-c", ASK], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == WORDS


@pytest.mark.parametrize(
    ("shell", "line", "said"),
    [
        ("zsh", "lethe tra", '"train":"Train a forget module."'),
        ("zsh", "lethe train --ran", '"--rank":"Rank of the adapters."'),
        ("fish", "lethe tra", "train\tTrain a forget module.\n"),
        ("fish", "lethe keys add k --role ev", "evaluator\n"),
    ],
)
def test_other_shells_show_the_help_beside_the_words(shell: str, line: str, said: str) -> None:
    result = CliRunner().invoke(cli.app, prog_name="lethe", env=asked(line, shell))
    assert result.exit_code == 0
    assert said in result.output


@pytest.mark.parametrize(
    "line", ["lethe ", "lethe tra", "lethe train --meth", "lethe module ver", "lethe convert --la"]
)
def test_completing_imports_no_engine_and_no_torch(line: str) -> None:
    code = (
        "import sys\nfrom lethe_offsets import cli\ntry:\n    cli.main()\nexcept SystemExit as ended:\n"
        "    assert not ended.code\nprint(*{name.partition('.')[0] for name in sys.modules})"
    )
    environment = {**os.environ, **asked(line, "bash")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    *words, loaded = done.stdout.splitlines()
    assert words
    assert not set(loaded.split()) & {"torch", "vllm", "transformers", "lethe_server"}


def test_a_command_whose_package_is_missing_completes_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> object:
        raise ModuleNotFoundError(f"No module named 'vllm', for {name}", name="vllm")

    monkeypatch.setattr(importlib, "import_module", import_module)
    result = CliRunner().invoke(cli.app, prog_name="lethe", env=asked("lethe serve --mo", "bash"))
    assert (result.exit_code, result.output.strip()) == (0, "")
