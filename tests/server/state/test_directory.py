"""A state directory, which people edit by hand."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from filelock import FileLock

from full_disk import full_disk
from lethe_offsets.module import Module
from lethe_server.errors import StateConflict, StateInvalid, StateUnavailable
from lethe_server.state import directory
from lethe_server.state.declared import DeclaredState, RouteSpec, Source, Target
from lethe_server.state.directory import DirectoryStore

ALONE = RouteSpec(targets=(Target(modules=(), weight=1.0),))


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    made = DirectoryStore(tmp_path)
    made.write(DeclaredState(generation=1, routes={"chat": ALONE}))
    return made


def test_the_file_is_for_people(tmp_path: Path, modules: dict[str, Module]) -> None:
    store, ref = DirectoryStore(tmp_path), modules["a"].ref
    store.put_module(modules["a"])
    spec = RouteSpec(targets=(Target(modules=(ref,), weight=95), Target(modules=(), weight=5)))
    catalog = {ref: Source(ref=ref, source="/srv/modules/a")}
    store.write(DeclaredState(generation=1, catalog=catalog, routes={"chat": spec}))
    assert (tmp_path / "routes.yaml").read_text() == (
        "# What Lethe serves. Every server of this state watches this file and writes it on changes by the admin API.\n"
        "# By hand: write a copy and move it here, with a generation of at least the one below.\n"
        "format_version: 1\n"
        "generation: 1\n"
        "catalog:\n"
        f"  {ref}:\n"
        f"    ref: {ref}\n"
        "    source: /srv/modules/a\n"
        "routes:\n"
        "  chat:\n"
        "    targets:\n"
        "    - modules:\n"
        f"      - {ref}\n"
        "      weight: 95.0\n"
        "    - modules: []\n"
        "      weight: 5.0\n"
        "history: {}\n"
    )


def test_an_edit_by_hand_is_a_change(store: DirectoryStore, tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(file.read_text().replace("chat:", "talk:"))  # the same generation
    assert store.changed()
    with pytest.raises(StateConflict, match=r"routes.yaml was changed since it was read"):
        store.write(DeclaredState(generation=2))
    edited = store.read()
    assert edited == DeclaredState(generation=1, routes={"talk": ALONE})
    store.write(edited.with_route("chat", ALONE))
    assert not store.changed()


@pytest.mark.parametrize("field", ["size", "time"])
def test_an_edit_that_keeps_size_or_time_is_seen(store: DirectoryStore, tmp_path: Path, field: str) -> None:
    file = tmp_path / "routes.yaml"
    before = file.stat()
    file.write_text(file.read_text().replace("chat:", "talk:" if field == "size" else "another:"))
    if field == "time":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.changed()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the whole: Input should be a valid dictionary"),
        ("generation: [", "while parsing a flow"),
        ("format_version: 2\ngeneration: 1", "format_version: Input should be 1"),
        ("generation: 1\nspeed: 2", "speed: Extra inputs are not permitted"),
        ("generation: 1\ngeneration: 2", "a key stands here twice"),
        ("routes: {on: {targets: [{modules: []}]}}", r"routes\.\S+: Input should be a valid string"),
        ("routes: {chat: {targets: []}}", "routes.chat.targets: Tuple should have at least 1 item"),
        ("routes: {chat: {targets: [{modules: [a]}]}}", r"routes.chat.targets.0.modules.0: .*sha256:<64 hex digits>"),
        (f"routes: {{chat: {{targets: [{{modules: ['a@sha256:{64 * '0'}']}}]}}}}", "is not in the catalog"),
        ("a: !!python/object/apply:os.system [exit]", "could not determine a constructor"),
        (b"\xff\xfe\xff", "routes.yaml is no declared state"),
        ("[" * 5000, "routes.yaml is no declared state"),
    ],
)
def test_a_file_that_is_no_state_is_named(
    store: DirectoryStore, tmp_path: Path, text: str | bytes, message: str
) -> None:
    file = tmp_path / "routes.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert store.changed()
    with pytest.raises(StateInvalid, match=message) as refused:
        store.read()
    assert str(refused.value).startswith(f"{file} is no declared state: ")
    assert "\n" not in str(refused.value)
    assert not store.changed()
    with pytest.raises(StateInvalid):
        store.write(DeclaredState(generation=2))
    assert file.read_bytes() == (text if isinstance(text, bytes) else text.encode())


def test_a_file_that_is_gone_is_a_change(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").unlink()
    assert store.changed()
    assert store.read() is None


def test_a_directory_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "state")
    store.write(DeclaredState(generation=1))
    (tmp_path / "state").rename(tmp_path / "elsewhere")
    for call in (store.changed, store.read, lambda: store.write(DeclaredState(generation=2))):
        with pytest.raises(StateUnavailable, match="state can't be read or written"):
            call()


def test_a_full_disk_leaves_the_state_as_it_was(store: DirectoryStore, tmp_path: Path) -> None:
    before = (tmp_path / "routes.yaml").read_bytes()
    names = (f"model-{number}" for number in range(500))
    large = DeclaredState(generation=2, routes=dict.fromkeys(names, ALONE))
    with full_disk(), pytest.raises(StateUnavailable, match=os.strerror(errno.EFBIG)):
        store.write(large)
    assert (tmp_path / "routes.yaml").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "routes.yaml"]
    store.write(large)
    assert store.read() == large


def test_a_full_disk_leaves_no_part_of_a_module(
    store: DirectoryStore, tmp_path: Path, modules: dict[str, Module]
) -> None:
    with full_disk(1024), pytest.raises(StateUnavailable):
        store.put_module(modules["a"])
    assert [file.name for file in (tmp_path / "modules").iterdir()] == [".lock"]


def test_a_broken_module_is_mended_by_the_sound_one(
    store: DirectoryStore, tmp_path: Path, modules: dict[str, Module]
) -> None:
    store.put_module(modules["a"])
    kept = store.get_module(modules["a"].ref)
    (kept.path / "README.md").unlink()
    store.put_module(modules["a"])
    assert store.get_module(modules["a"].ref) == kept


def test_a_lock_that_is_never_given_back_is_said(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "LOCK_TIMEOUT_S", 0.1)
    waiting = DirectoryStore(tmp_path)
    with FileLock(tmp_path / ".lock"), pytest.raises(StateUnavailable, match="another process has held the lock"):
        waiting.write(DeclaredState(generation=2))
