"""Build steps: done once, and again when they have to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from lethe_offsets.steps import Steps, default_cache_dir


class Builder:
    """Builds a directory with one file, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, out: Path) -> None:
        assert not out.exists()
        out.mkdir()
        self.times += 1
        (out / "file").write_text(str(self.times))


class Interrupted(Exception):
    """Stands for the end of the process."""


def test_a_finished_step_is_kept_until_its_recipe_changes(tmp_path: Path) -> None:
    build, steps = Builder(), Steps(tmp_path)
    assert steps.run("model", {"width": 1}, build) == tmp_path / "model"
    steps.run("model", {"width": 1}, build)
    assert build.times == 1
    steps.run("model", {"width": 2}, build)
    assert build.times == 2
    assert (tmp_path / "model" / "file").read_text() == "2"


def test_fresh_builds_again(tmp_path: Path) -> None:
    build = Builder()
    for fresh in (False, True):
        Steps(tmp_path, fresh).run("model", {}, build)
    assert build.times == 2


def test_a_lost_directory_or_a_broken_mark_is_built_again(tmp_path: Path) -> None:
    build, steps = Builder(), Steps(tmp_path)
    (steps.run("model", {}, build) / "file").unlink()
    (tmp_path / "model").rmdir()
    steps.run("model", {}, build)
    (tmp_path / "steps" / "model.json").write_text("{")
    steps.run("model", {}, build)
    assert build.times == 3


def test_an_interrupted_step_is_built_again_from_what_it_left_beside(tmp_path: Path) -> None:
    build, steps, leftover = Builder(), Steps(tmp_path), tmp_path / "model.training"

    def interrupted(out: Path) -> None:
        out.mkdir()
        leftover.mkdir()
        raise Interrupted

    with pytest.raises(Interrupted):
        steps.run("model", {"width": 1}, interrupted)
    steps.run("model", {"width": 1}, build)
    assert build.times == 1
    assert leftover.is_dir(), "the same recipe may go on from it"
    steps.run("model", {"width": 2}, build)
    assert not leftover.exists(), "another recipe may not"


@pytest.mark.skipif("sys.platform == 'win32'")
def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "lethe" / "demo"
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert default_cache_dir() == Path.home() / ".cache" / "lethe" / "demo"
