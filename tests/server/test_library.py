"""From references to modules: verified, signed where that is asked for, merged where several answer together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import tiny
from kit import Kit
from lethe_offsets.create import create_module
from lethe_offsets.errors import ModuleCorrupt, ModuleIncompatible, ModuleNotFound, ModuleUnsigned
from lethe_offsets.module import Module
from lethe_server.library import Library
from lethe_server.state.store import MemoryStore


@pytest.fixture(scope="module")
def pair(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> list[Module]:
    """Two modules of one rule."""
    root = tmp_path_factory.mktemp("pair")
    made = []
    for number, name in enumerate(("one", "two")):
        plus = tiny.random_adapter(kit.small, root / f"{name}-plus", rank=4 + number, seed=number)
        made.append(create_module(name, kit.small, plus=plus, out=root / name))
    return made


def library(cache: Path, modules: list[Module], trusted_keys: tuple[Path, ...] = ()) -> Library:
    store = MemoryStore()
    for module in modules:
        store.put_module(module)
    return Library(store, cache, trusted_keys)


def refs(modules: list[Module]) -> tuple[str, ...]:
    return tuple(sorted(module.ref for module in modules))


def test_one_is_what_it_is(pair: list[Module], tmp_path: Path) -> None:
    made = library(tmp_path, pair)
    assert made.known(pair[0].ref) is None
    assert made.open((pair[0].ref,)) == [pair[0]]
    assert made.known(pair[0].ref) == pair[0]
    assert made.look(pair[1].ref) == pair[1]
    with pytest.raises(ModuleNotFound):
        made.open(("one@sha256:" + "0" * 64,))


def test_several_are_merged_once(pair: list[Module], tmp_path: Path) -> None:
    (first,) = library(tmp_path, pair).open(refs(pair))
    assert first.manifest.hyperparameters["modules"] == list(refs(pair))
    assert {lane: adapter.rank for lane, adapter in first.adapters().items()} == {"plus": 9}
    times = {file: file.stat().st_mtime_ns for file in first.path.rglob("*")}
    (again,) = library(tmp_path, pair).open(refs(pair))
    assert (again.ref, again.path) == (first.ref, first.path)
    assert {file: file.stat().st_mtime_ns for file in first.path.rglob("*")} == times
    assert [each.digest for each in library(tmp_path / "elsewhere", pair).open(refs(pair))] == [first.digest]


def test_where_the_engine_adds_offsets_nothing_is_merged(kit: Kit, tmp_path: Path) -> None:
    modules = [kit.modules["plain"], kit.modules["ranked"]]
    store = MemoryStore()
    for module in modules:
        store.put_module(module)
    assert Library(store, tmp_path, merges=False).open(refs(modules)) == modules
    assert list(tmp_path.iterdir()) == []


def test_a_merger_that_was_damaged_is_made_again(pair: list[Module], tmp_path: Path) -> None:
    (first,) = library(tmp_path, pair).open(refs(pair))
    (first.path / "offset.json").write_text("{}")
    assert [each.digest for each in library(tmp_path, pair).open(refs(pair))] == [first.digest]


def test_modules_of_differing_rules_can_not_answer_together(kit: Kit, tmp_path: Path) -> None:
    modules = [kit.modules["plain"], kit.modules["ranked"]]
    with pytest.raises(ModuleIncompatible, match="rule"):
        library(tmp_path, modules).open(refs(modules))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_module_that_was_changed_is_refused_alone_and_merged(pair: list[Module], tmp_path: Path) -> None:
    changed = Module.open(shutil.copytree(pair[0].path, tmp_path / "changed"))
    made = library(tmp_path, [changed, pair[1]])
    (changed.path / "README.md").write_text("something else")
    for wanted in ((changed.ref,), refs([changed, pair[1]])):
        with pytest.raises(ModuleCorrupt):
            made.open(wanted)


def test_where_signatures_are_asked_for_none_comes_without(pair: list[Module], tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    key.write_bytes(public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    made = library(tmp_path, pair, (key,))
    for wanted in ((pair[0].ref,), refs(pair)):
        with pytest.raises(ModuleUnsigned):
            made.open(wanted)
    assert made.known(pair[0].ref) is None
    made.close()
