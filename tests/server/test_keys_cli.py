"""``lethe keys`` as it is run."""

from __future__ import annotations

import json
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lethe_server.auth import Keyring
from lethe_server.keys_file import KeysFile
from server_process import LETHE


def lethe(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LETHE, "keys", *map(str, arguments)], capture_output=True, text=True, timeout=60)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def test_a_key_is_shown_once_and_kept_nowhere(file: Path) -> None:
    made = lethe("add", file, "--name", "shop", "--role", "client", "--model", "a", "--model", "org/b")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert len(key) > 40
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert lethe("add", file, "--name", "ops", "--role", "admin", "--max-logprobs", 3).returncode == 0
    caller = Keyring([], [], KeysFile(file)).caller(f"Bearer {key}")
    assert (caller.name, caller.role, caller.models) == ("shop", "client", {"a", "org/b"})
    listed = lethe("list", file)
    assert "shop" in listed.stdout
    assert "org/b" in listed.stdout
    as_json = lethe("list", file, "--json").stdout
    assert key not in listed.stdout + as_json
    assert [each["name"] for each in json.loads(as_json)] == ["shop", "ops"]
    assert lethe("remove", file, "--name", "shop").returncode == 0
    assert Keyring([], [], KeysFile(file)).caller(f"Bearer {key}").name == "anonymous"


def test_a_mode_given_by_the_owner_stays(file: Path) -> None:
    lethe("add", file, "--name", "a", "--role", "client")
    file.chmod(0o640)
    lethe("add", file, "--name", "b", "--role", "client")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--name", "here", "--role", "client"], 1, "doesn't have yet"),
        (["--name", "admin-3", "--role", "client"], 1, "are taken"),
        (["--name", "a b", "--role", "client"], 1, "name"),
        (["--name", "b", "--role", "admin", "--model", "x"], 1, "only for role client"),
        (["--name", "b", "--role", "client", "--model", "base"], 1, "public model names"),
        (["--name", "b", "--role", "boss"], 2, "boss"),
        (["--name", "b"], 2, "--role"),
    ],
)
def test_what_is_refused(file: Path, arguments: list[str], code: int, said: str) -> None:
    assert lethe("add", file, "--name", "here", "--role", "client").returncode == 0
    before = file.read_bytes()
    refused = lethe("add", file, *arguments)
    assert (refused.returncode, refused.stdout) == (code, "")
    assert said in refused.stderr
    assert file.read_bytes() == before


def test_names_and_files_that_are_not_there(file: Path) -> None:
    assert "can be read" in lethe("list", file).stderr
    lethe("add", file, "--name", "a", "--role", "client")
    assert "one of a" in lethe("remove", file, "--name", "b").stderr


def test_two_at_once_lose_nothing(file: Path) -> None:
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda name: lethe("add", file, "--name", name, "--role", "client"), ("a", "b", "c", "d")))
    assert {each["name"] for each in json.loads(lethe("list", file, "--json").stdout)} == {"a", "b", "c", "d"}
