from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from lethe_offsets.errors import InvalidInput
from lethe_server.auth import Role, key_digest
from lethe_server.keys_file import CHECK_EVERY_S, KeysFile, read_entries

SECRET = "a-key-that-nobody-may-see"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def entry(name: str, role: str = "client", key: str | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "role": role, "hash": f"sha256:{key_digest(key or name).hex()}", **more}


def write(path: Path, *entries: dict[str, Any]) -> Path:
    """Replaced as a whole, as an editor or a Secret's volume does it."""
    draft = path.with_name("draft")
    draft.write_text(yaml.safe_dump({"keys": list(entries)}))
    draft.chmod(0o600)
    draft.replace(path)
    return path


def names(file: KeysFile) -> list[str]:
    return [key.caller.name for key in file.current()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "keys.yaml", entry("a"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"keys": [{"name": "a", "role": "client", "hash": SECRET}]}, "keys.0.hash"),
        ({"keys": [{"name": "a", "role": "client", "hash": SECRET}]}, "lethe keys add"),
        ({"keys": [{"name": "a", "role": "client", "key": SECRET}]}, "no plain key"),
        ({"keys": [{**entry("a"), "hash": entry("a")["hash"].upper()}]}, "keys.0.hash"),
        ({"keys": [{**entry("a"), "hash": "md5:" + "0" * 64}]}, "keys.0.hash"),
        ({"keys": [entry("a", "boss")]}, "'monitor', 'evaluator' or 'admin'"),
        ({"keys": [entry("a", "anonymous")]}, "keys.0.role"),
        ({"keys": [entry("a b")]}, "keys.0.name"),
        ({"keys": [entry("admin-1")]}, "are taken"),
        ({"keys": [entry("a"), entry("a", key="other")]}, "name of its own"),
        ({"keys": [entry("a"), entry("b", "admin", key="a")]}, "hash of its own"),
        ({"keys": [entry("a", models=[])]}, "keys.0.models"),
        ({"keys": [entry("a", models=["base"])]}, "public model names"),
        ({"keys": [entry("a", models=["x@sha256:00000000"])]}, "public model names"),
        ({"keys": [entry("a", "admin", models=["x"])]}, "only for role client"),
        ({"keys": [entry("a", max_logprobs=-1)]}, "max_logprobs"),
        ({"keys": [entry("a", max_logprobs="5")]}, "max_logprobs"),
        ({"keys": [entry("a")], "more": 1}, "more"),
        ({"keys": {"a": 1}}, "keys"),
        (["a"], "mapping"),
        ("a: }", "YAML file (line 1)"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(InvalidInput) as caught:
        read_entries(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "sha256:" + key_digest("a").hex() not in str(caught.value)


def test_yaml_that_would_make_objects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: !!python/object/apply:os.getcwd []")
    with pytest.raises(InvalidInput, match="YAML"):
        read_entries(tmp_path / "keys.yaml")


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    for name in ("nothing", "pipe", "bytes", "."):
        with pytest.raises(InvalidInput):
            KeysFile(tmp_path / name).open([])


def test_a_change_is_taken_over_at_most_once_a_second(path: Path) -> None:
    clock = Clock()
    file = KeysFile(path, clock)
    file.open([])
    write(path, entry("b", "admin"))
    clock.now += CHECK_EVERY_S / 2
    assert names(file) == ["a"]
    clock.now += CHECK_EVERY_S / 2
    assert names(file) == ["b"]
    assert [key.caller.role for key in file.current()] == [Role.ADMIN]
    assert file.error is None


def test_a_change_within_one_tick_of_the_clock_and_of_equal_size_is_seen(path: Path) -> None:
    clock = Clock()
    file = KeysFile(path, clock)
    file.open([])
    before = path.stat()
    write(path, entry("b"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    clock.now += CHECK_EVERY_S
    assert names(file) == ["b"]


@pytest.mark.parametrize("kind", ["invalid", "half", "gone", "writable by all", "of the command line"])
def test_an_invalid_file_leaves_the_last_good_one_in_force(
    path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    clock = Clock()
    file = KeysFile(path, clock)
    given = KeysFile(write(path.with_name("given"), entry("g", key="given")))
    given.open([])
    file.open(given.current())
    whole = write(path, entry("b")).read_text()
    if kind == "gone":
        path.unlink()
    elif kind == "writable by all":
        path.chmod(0o666)
    elif kind == "of the command line":
        write(path, entry("b", "admin", key="given"))
    else:
        path.write_text("keys: [{}]" if kind == "invalid" else whole[: len(whole) // 2])
    for _ in range(3):
        clock.now += CHECK_EVERY_S
        assert names(file) == ["a"]
    assert file.error is not None
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    write(path, entry("c"))
    clock.now += CHECK_EVERY_S
    assert names(file) == ["c"]
    assert file.error is None


def test_a_file_that_all_can_read_is_warned_of(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    KeysFile(path).open([])
    assert not caplog.records
    path.chmod(0o644)
    KeysFile(path).open([])
    assert "chmod 600" in caplog.text


def test_a_file_that_all_can_write_is_refused_at_start(path: Path) -> None:
    path.chmod(0o602)
    with pytest.raises(InvalidInput, match="chmod o-w"):
        KeysFile(path).open([])
