"""A change killed at any step leaves the old or the new state, and what was killed can be done again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kill_each_step
from lethe_offsets.errors import ModuleNotFound
from lethe_offsets.module import Module
from lethe_server.state.declared import DeclaredState, Source
from lethe_server.state.directory import DirectoryStore


def kill(before: Path, after: Path, *modules: Module) -> int:
    """The number of steps after which the change was killed, each in a directory of that number."""
    command = [sys.executable, kill_each_step.__file__, before, after, *(module.path for module in modules)]
    # One thread: a forked process doesn't have those of its parent.
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


def check_whole(store: DirectoryStore) -> DeclaredState | None:
    """The state; every module that it declares can be read."""
    state = store.read()
    for ref in () if state is None else state.catalog:
        assert store.get_module(ref).ref == ref
    return state


def test_a_first_change(tmp_path: Path, modules: dict[str, Module]) -> None:
    (tmp_path / "before").mkdir()
    kept = modules["a"]
    new = DeclaredState(generation=1, catalog={kept.ref: Source(ref=kept.ref, source="made")})
    steps = kill(tmp_path / "before", tmp_path / "after", kept)
    seen = []
    for number in range(1, steps + 1):
        store = DirectoryStore(tmp_path / "after" / str(number))
        seen.append(check_whole(store))
        assert seen[-1] in (None, new)
        if seen[-1] is None:
            kill_each_step.change(store, kept, None)
        assert check_whole(store) == new
    assert steps > 30
    assert seen[0] is None
    assert seen[-1] == new


def test_a_change_that_replaces_a_module(tmp_path: Path, modules: dict[str, Module]) -> None:
    dropped, kept = modules["a"], modules["b"]
    before = DirectoryStore(tmp_path / "before")
    kill_each_step.change(before, dropped, None)
    old = before.read()
    new = DeclaredState(generation=2, catalog={kept.ref: Source(ref=kept.ref, source="made")})
    steps = kill(tmp_path / "before", tmp_path / "after", kept, dropped)
    seen = []
    for number in range(1, steps + 1):
        store = DirectoryStore(tmp_path / "after" / str(number))
        seen.append(check_whole(store))
        assert seen[-1] in (old, new)
        if seen[-1] == old:
            kill_each_step.change(store, kept, dropped)
        store.drop_module(dropped.ref)
        assert check_whole(store) == new
        with pytest.raises(ModuleNotFound):
            store.get_module(dropped.ref)
        left = {file.name for file in (tmp_path / "after" / str(number) / "modules").iterdir()}
        assert left == {".lock", kept.digest.removeprefix("sha256:")}
    assert (seen[0], seen[-1]) == (old, new)


def test_a_change_of_scores_alone(tmp_path: Path, modules: dict[str, Module]) -> None:
    copy = Path(shutil.copytree(modules["a"].path, tmp_path / "copy"))
    before = DirectoryStore(tmp_path / "before")
    (copy / "eval.json").write_text('{"quality": 1}')
    kill_each_step.change(before, Module.open(copy), None)
    (copy / "eval.json").write_text('{"quality": 2}')
    steps = kill(tmp_path / "before", tmp_path / "after", Module.open(copy))
    seen = []
    for number in range(1, steps + 1):
        store = DirectoryStore(tmp_path / "after" / str(number))
        seen.append(store.get_module(modules["a"].ref).scores())
    assert seen[0] == {"quality": 1}
    assert seen[-1] == {"quality": 2}
    assert all(scores in ({"quality": 1}, {"quality": 2}) for scores in seen)


def test_nothing_is_renamed_before_it_is_on_the_disk(
    tmp_path: Path, modules: dict[str, Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a crash of the machine needs, which a killed process doesn't show: flush, rename, flush the directory."""
    flushed: set[str] = set()
    events: list[tuple[str, bool]] = []
    fsync, replace, rename = os.fsync, os.replace, Path.rename

    def record_flush(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        flushed.add(path)
        events.append((f"flush {path}", True))
        fsync(handle)

    def record_rename(source: Path, target: Path) -> None:
        inside = [source, *source.rglob("*")] if source.is_dir() else [source]
        events.append((f"rename {target}", {str(path) for path in inside} <= flushed))

    def replacing(source: Path, target: Path) -> None:
        record_rename(source, target)
        replace(source, target)

    def renaming(source: Path, target: Path) -> Path:
        record_rename(source, target)
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", record_flush)
    monkeypatch.setattr(os, "replace", replacing)
    monkeypatch.setattr(Path, "rename", renaming)
    root = tmp_path / "state"
    kill_each_step.change(DirectoryStore(root), modules["a"], None)

    renamed = [number for number, (event, _) in enumerate(events) if event.startswith("rename")]
    place = root / "modules" / modules["a"].digest.removeprefix("sha256:")
    assert [events[number] for number in renamed] == [(f"rename {place}", True), (f"rename {root}/routes.yaml", True)]
    assert [events[number + 1][0] for number in renamed] == [f"flush {place.parent}", f"flush {root}"]
