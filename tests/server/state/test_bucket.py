"""What only a bucket has to stand: others who write between two requests, and answers that get lost."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from lethe_server.errors import StateConflict
from lethe_server.state.bucket import BucketStore
from lethe_server.state.declared import DeclaredState
from lethe_server.state.text import as_text


@pytest.fixture
def pair(bucket: str, tmp_path: Path) -> tuple[BucketStore, BucketStore]:
    """Two servers' stores over one place on S3, with generation 1 declared and read by both."""
    url = f"{bucket}/{uuid.uuid4()}"
    first, second = (BucketStore(url, tmp_path / name) for name in ("one", "two"))
    first.write(DeclaredState(generation=1))
    second.read()
    return first, second


def test_a_write_by_another_right_after_ours_is_a_change(
    pair: tuple[BucketStore, BucketStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    swap = BucketStore._swap

    def followed(store: BucketStore, text: bytes, version: str | None) -> None:
        monkeypatch.undo()
        swap(store, text, version)
        second.read()
        second.write(DeclaredState(generation=3))

    monkeypatch.setattr(BucketStore, "_swap", followed)
    first.write(DeclaredState(generation=2))
    assert first.changed()
    assert first.read() == DeclaredState(generation=3)


def test_a_write_by_another_right_before_ours_is_a_conflict(
    pair: tuple[BucketStore, BucketStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    swap = BucketStore._swap

    def preceded(store: BucketStore, text: bytes, version: str | None) -> None:
        monkeypatch.undo()
        second.write(DeclaredState(generation=2, routes={}))
        swap(store, as_text(DeclaredState(generation=2)) + b"# ours\n", version)

    monkeypatch.setattr(BucketStore, "_swap", preceded)
    with pytest.raises(StateConflict, match="was written by another just then"):
        first.write(DeclaredState(generation=2))
    assert first.changed()


def test_a_write_whose_answer_was_lost_is_no_conflict(pair: tuple[BucketStore, BucketStore]) -> None:
    first, _ = pair
    version, _ = first._look()
    for _ in range(2):
        first._swap(as_text(DeclaredState(generation=2)), version)
    assert first.read() == DeclaredState(generation=2)
