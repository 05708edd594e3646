from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lethe_offsets.errors import ModuleCorrupt, ModuleInvalid
from lethe_offsets.sums import check_sums, read_files, sums_of

FILES = {"plus/adapter_config.json": b"{}", "README.md": b"card", "offset.json": b"{}", "eval.json": b"1"}


def test_sums_are_sorted_lines_of_every_file_but_the_list_and_the_scores() -> None:
    card, braces = (hashlib.sha256(data).hexdigest() for data in (b"card", b"{}"))
    expected = f"{card}  README.md\n{braces}  offset.json\n{braces}  plus/adapter_config.json\n"
    assert sums_of(FILES | {"SHA256SUMS": b"itself"}) == expected.encode()


def test_sums_that_agree_are_returned() -> None:
    assert check_sums(FILES | {"SHA256SUMS": sums_of(FILES)}) == sums_of(FILES)


def test_a_missing_list_is_no_module() -> None:
    with pytest.raises(ModuleInvalid, match="SHA256SUMS: got None"):
        check_sums(FILES)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (FILES | {"README.md": b"Card"}, "README.md: got 'sha256:.*'; accepted: sha256:.*, as in SHA256SUMS"),
        (FILES | {"minus/adapter_config.json": b""}, "minus/adapter_config.json: got 'a file'; accepted: only files"),
        ({n: d for n, d in FILES.items() if n != "README.md"}, "README.md: got 'no file'; accepted: the file listed"),
    ],
)
def test_a_file_that_is_changed_added_or_missing_is_named(files: dict[str, bytes], message: str) -> None:
    with pytest.raises(ModuleCorrupt, match=message):
        check_sums(files | {"SHA256SUMS": sums_of(FILES)})


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[::-1],
        lambda lines: [*lines, lines[0]],
        lambda lines: [*lines, b"# a comment\n"],
        lambda lines: [line.replace(b"  ", b" *") for line in lines],
        lambda lines: [line.upper() for line in lines],
        lambda lines: [line.replace(b"\n", b"\r\n") for line in lines],
    ],
)
def test_the_list_has_one_canonical_form(change) -> None:  # type: ignore[no-untyped-def]
    lines = sums_of(FILES).splitlines(keepends=True)
    with pytest.raises(ModuleInvalid):
        check_sums(FILES | {"SHA256SUMS": b"".join(change(lines))})


def test_files_are_read_by_their_relative_names(module_path: Path) -> None:
    files = read_files(module_path)
    pair = ("adapter_config.json", "adapter_model.safetensors")
    lanes = {f"{lane}/{name}" for lane in ("plus", "minus") for name in pair}
    assert files.keys() == {"offset.json", "README.md", "SHA256SUMS"} | lanes
    assert files["README.md"] == (module_path / "README.md").read_bytes()


@pytest.mark.parametrize("name", ["adapter_model.bin", "w.pt", "w.PKL", "x.pickle", "modeling.py", "a.npz", "x.so"])
def test_a_file_that_could_run_code_is_refused_by_name(module_path: Path, name: str) -> None:
    (module_path / "plus" / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ModuleInvalid, match=f"file: got 'plus/{name}'; .*reading pickles or Python would run code"):
        read_files(module_path)


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "plus/offset.json", "minus/README.md"])
def test_a_file_that_the_format_does_not_hold_is_refused(module_path: Path, name: str) -> None:
    (module_path / name).write_text("x")
    with pytest.raises(ModuleInvalid, match=f"file: got '{name}'; accepted: only README.md"):
        read_files(module_path)


@pytest.mark.parametrize("name", ["times", "plus/deeper", "__pycache__"])
def test_a_directory_that_is_no_lane_is_refused(module_path: Path, name: str) -> None:
    (module_path / name).mkdir()
    with pytest.raises(ModuleInvalid, match=f"directory: got '{name}'; accepted: only plus and minus"):
        read_files(module_path)


@pytest.mark.parametrize("name", ["README.md", "plus/adapter_model.safetensors", "eval.json"])
def test_a_link_is_refused(module_path: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(b"")
    (module_path / name).unlink(missing_ok=True)
    (module_path / name).symlink_to(target)
    with pytest.raises(ModuleInvalid, match=f"{name}: got 'a link to {target}'; accepted: no links"):
        read_files(module_path)


def test_a_linked_lane_is_refused(module_path: Path, tmp_path: Path) -> None:
    (module_path / "minus").rename(tmp_path / "elsewhere")
    (module_path / "minus").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModuleInvalid, match="minus: got 'a link to"):
        read_files(module_path)


def test_a_pipe_is_refused_without_waiting_for_a_writer(module_path: Path) -> None:
    os.mkfifo(module_path / "eval.json")
    with pytest.raises(ModuleInvalid, match=r"eval.json: got 'prw.*'; accepted: a regular file"):
        read_files(module_path)


def test_what_is_no_directory_is_no_module(module_path: Path) -> None:
    for path in (module_path / "absent", module_path / "offset.json"):
        with pytest.raises(ModuleInvalid, match=r"path: got .*; accepted: a forget module's directory"):
            read_files(path)
