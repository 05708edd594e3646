"""Whatever is done to a log, the check names the place. The reference is the log that was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lethe_offsets.errors import InvalidInput
from lethe_server.audit.line import GENESIS, Line
from lethe_server.audit.verify import check, check_bytes

NUM_LINES = 6


def written(count: int = NUM_LINES) -> list[bytes]:
    """Lines as the log writes them, each with its end."""
    lines: list[bytes] = []
    previous = GENESIS
    for seq in range(1, count + 1):
        line = Line.chained(
            seq=seq,
            time=f"2026-01-0{seq}T00:00:00.000+00:00",
            who="ops",
            action="route.put",
            subject=f"model-{seq}",
            digests=[f"a@sha256:{seq:064x}"],
            result="done",
            generation=seq,
            details={"routes": {}, "number": seq / 7},
            previous=previous,
        )
        previous = line.hash
        lines.append(line.to_bytes() + b"\n")
    return lines


LINES = written()


def places(content: bytes) -> list[int]:
    return [problem.number for problem in check_bytes(content).problems]


def rehashed(data: bytes, **changes: object) -> bytes:
    """A line changed by someone who knows how its own hash is made."""
    fields = {**json.loads(data), **changes}
    del fields["hash"]
    return Line.chained(**fields).to_bytes() + b"\n"


def test_what_was_written_is_sound() -> None:
    found = check_bytes(b"".join(LINES))
    assert found.problems == ()
    assert [line.seq for line in found.lines] == [1, 2, 3, 4, 5, 6]
    assert found.head == json.loads(LINES[-1])["hash"]
    assert check_bytes(b"").problems == ()
    assert check_bytes(b"").head == GENESIS


@settings(max_examples=300, derandomize=True, deadline=None)
@given(place=st.integers(0, sum(map(len, LINES)) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_found_in_its_line(place: int, byte: int) -> None:
    content = bytearray(b"".join(LINES))
    if content[place] == byte:
        return
    line = content[:place].count(b"\n") + 1
    content[place] = byte
    assert places(bytes(content))[0] == line


@pytest.mark.parametrize("index", range(NUM_LINES))
def test_a_changed_line_with_a_hash_of_its_own(index: int) -> None:
    changed = [*LINES[:index], rehashed(LINES[index], who="nobody"), *LINES[index + 1 :]]
    last = index == NUM_LINES - 1  # nothing follows it: found by its hash alone, see --head
    assert places(b"".join(changed)) == ([] if last else [index + 2])
    assert (check_bytes(b"".join(changed)).head != check_bytes(b"".join(LINES)).head) is last


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.sets(st.integers(0, NUM_LINES - 2), min_size=1))
def test_missing_lines_are_found_where_they_were(gone: set[int]) -> None:
    kept = [line for index, line in enumerate(LINES) if index not in gone]
    found = check_bytes(b"".join(kept))
    numbers = [json.loads(line)["seq"] for line in kept]
    expected = [place + 1 for place, seq in enumerate(numbers) if seq != (numbers[place - 1] if place else 0) + 1]
    assert [problem.number for problem in found.problems] == expected
    assert all("missing before it" in problem.text for problem in found.problems)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.permutations(range(NUM_LINES)))
def test_another_order_is_found(order: list[int]) -> None:
    found = places(b"".join(LINES[index] for index in order))
    first = next((place for place, index in enumerate(order) if place != index), None)
    assert (found[0] if found else None) == (None if first is None else first + 1)


def test_a_line_twice() -> None:
    content = b"".join([*LINES[:3], LINES[2], *LINES[3:]])
    assert places(content) == [4]
    assert "out of order" in check_bytes(content).problems[0].text


def test_a_line_put_in_between() -> None:
    foreign = rehashed(LINES[2], seq=3, subject="other")
    assert places(b"".join([*LINES[:2], foreign, *LINES[2:]]))[0] == 4
    assert places(b"".join([*LINES[:2], b"\n", *LINES[2:]])) == [3, 4]
    assert places(b"".join([*LINES[:2], b"{}\n", *LINES[3:]])) == [3]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.integers(1, len(b"".join(LINES)) - 1))
def test_a_file_cut_off_anywhere(size: int) -> None:
    content = b"".join(LINES)[:size]
    whole = content.count(b"\n")
    assert places(content) == ([] if content.endswith(b"\n") else [whole + 1])
    assert len(check_bytes(content).lines) == whole


def test_the_same_content_written_otherwise_is_no_line() -> None:
    for other in (json.dumps(json.loads(LINES[1])).encode(), LINES[1][:-1] + b" ", b"[" * 100_000):
        assert places(b"".join([LINES[0], other + b"\n", *LINES[2:]])) == [2]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="can be read"):
        check(tmp_path / "nothing")
