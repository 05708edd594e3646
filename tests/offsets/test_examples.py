"""The help of every command: its own parser takes its examples, and no word of it is lost as markup."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from rich.text import Text
from typer.testing import CliRunner

from lethe_offsets.cli import COMMANDS, app

WIDTH = 80
Path = tuple[str, ...]


def help_of(path: Path) -> str:
    result = CliRunner().invoke(
        app, [*path, "--help"], prog_name="lethe", env={"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def examples_of(path: Path) -> list[list[str]]:
    """The words of each command line under the help of a command, as a shell reads them."""
    text = help_of(path).partition("\n Examples:\n")[2]
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def below(command: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from below(inner, (*path, name))


@pytest.fixture(scope="module")
def commands() -> dict[Path, Any]:
    """Every command by the words that name it, with its click command; ``lethe`` itself is named by none."""
    lethe: Any = typer.main.get_command(app)
    context = lethe.make_context("lethe", [], resilient_parsing=True)
    loaded = [below(lethe.resolve_command(context, [name])[1], (name,)) for name in COMMANDS]
    return {(): lethe} | {path: command for paths in loaded for path, command in paths}


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are parsed and do nothing."""
    get_command = typer.main.get_command

    def muted(loaded: typer.Typer) -> Any:
        command = get_command(loaded)
        for _, each in below(command, ()):
            each.callback = lambda **given: None
        return command

    monkeypatch.setattr(typer.main, "get_command", muted)


def test_every_help_ends_with_examples_of_its_command(commands: dict[Path, Any]) -> None:
    assert {("module", "create"), ("keys", "list"), ("audit", "report"), ("modules", "add")} <= set(commands)
    for path in commands:
        examples = examples_of(path)
        assert examples, f"lethe {' '.join(path)}"
        for words in examples:
            assert words[0] == "lethe"
        assert any(tuple(words[1 : len(path) + 1]) == path for words in examples), f"lethe {' '.join(path)}"


def test_examples_can_be_copied_from_a_narrow_terminal(commands: dict[Path, Any]) -> None:
    lines = [line for path in commands for line in help_of(path).partition("\n Examples:\n")[2].splitlines()]
    assert len(lines) > len(commands)
    assert [line for line in lines if line != line.rstrip() or len(line) > WIDTH] == []


@pytest.mark.usefixtures("idle")
def test_every_example_is_taken_by_its_parser(commands: dict[Path, Any]) -> None:
    examples = {tuple(words) for path in commands for words in examples_of(path)}
    assert len(examples) > len(COMMANDS)
    for words in examples:
        result = CliRunner().invoke(app, words[1:], prog_name="lethe")
        assert (result.exit_code, result.output) == (0, ""), words


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("broken", ["train --out m", "keys add k --name n --role boss", "swap m r --wiat"])
def test_a_wrong_example_would_be_noticed(broken: str) -> None:
    assert CliRunner().invoke(app, broken.split(), prog_name="lethe").exit_code == 2


def test_no_word_of_a_help_is_taken_for_markup(commands: dict[Path, Any]) -> None:
    for path, command in commands.items():
        for text in (command.help, *(getattr(option, "help", None) for option in command.params)):
            assert Text.from_markup(text or "").plain == (text or ""), f"lethe {' '.join(path)}"
