"""What every store keeps: one place, opened by several servers."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lethe_offsets.errors import InvalidInput, ModuleCorrupt, ModuleNotFound
from lethe_offsets.module import Module
from lethe_server.errors import StateConflict, StateUnavailable
from lethe_server.state.declared import DeclaredState, RouteSpec, Source, Target
from lethe_server.state.store import MemoryStore, StateStore, open_store

Open = Callable[[], StateStore]


def declared(*modules: Module, generation: int = 1) -> DeclaredState:
    return DeclaredState(
        generation=generation,
        catalog={module.ref: Source(ref=module.ref, source=str(module.path)) for module in modules},
        routes={module.name: RouteSpec(targets=(Target(modules=(module.ref,), weight=1.0),)) for module in modules},
    )


def test_a_new_place_declares_nothing(open_again: Open) -> None:
    store = open_again()
    assert store.read() is None
    assert not store.changed()


def test_what_is_written_is_read_by_another_server(open_again: Open, modules: dict[str, Module]) -> None:
    first, second = open_again(), open_again()
    assert second.read() is None
    first.put_module(modules["a"])
    first.write(declared(modules["a"]))
    assert not first.changed()
    assert second.changed()
    assert second.read() == declared(modules["a"])
    assert not second.changed()
    assert open_again().read() == declared(modules["a"])


def test_each_module_is_there_for_another_server(open_again: Open, modules: dict[str, Module]) -> None:
    open_again().put_module(modules["a"])
    found = open_again().get_module(modules["a"].ref)
    assert found == dataclasses.replace(modules["a"], path=found.path)
    assert found.path != modules["a"].path
    assert found.adapters().keys() == modules["a"].adapters().keys()


def test_the_second_of_two_conflicting_writes_is_refused(open_again: Open) -> None:
    first, second = open_again(), open_again()
    for store in (first, second):
        assert store.read() is None
    first.write(DeclaredState(generation=1))
    with pytest.raises(StateConflict, match="generation 1 can't follow 1"):
        second.write(DeclaredState(generation=1))
    with pytest.raises(StateConflict, match="generation 3 can't follow 1"):
        second.write(DeclaredState(generation=3))
    assert second.changed()
    assert second.read() == DeclaredState(generation=1)
    second.write(DeclaredState(generation=2))
    assert first.changed()


def test_who_has_not_read_the_last_state_can_not_replace_it(open_again: Open, modules: dict[str, Module]) -> None:
    first, second = open_again(), open_again()
    first.put_module(modules["a"])
    first.write(DeclaredState(generation=1))
    second.read()
    first.write(declared(modules["a"], generation=2))
    with pytest.raises(StateConflict):
        second.write(DeclaredState(generation=2))
    assert second.read() == declared(modules["a"], generation=2)


def test_no_change_is_lost_among_many_writers(open_again: Open, request: pytest.FixtureRequest) -> None:
    if "memory" in request.node.callspec.id:
        pytest.skip("memory:// can't compare and swap")
    rounds, names = 8, ("x", "y", "z")

    def work(name: str) -> None:
        store = open_again()
        done = 0
        while done < rounds:
            state = store.read() or DeclaredState()
            alone = RouteSpec(targets=(Target(modules=(), weight=1.0),))
            try:
                store.write(state.with_route(f"{name}{done}", alone))
            except StateConflict:
                continue
            done += 1

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = open_again().read()
    assert state is not None
    assert state.generation == rounds * len(names)
    assert set(state.routes) == {f"{name}{number}" for name in names for number in range(rounds)}


def test_a_module_that_was_not_put_can_not_be_declared(open_again: Open, modules: dict[str, Module]) -> None:
    store = open_again()
    with pytest.raises(ModuleNotFound, match=f"module '{modules['a'].ref}' is not in the catalog"):
        store.write(declared(modules["a"]))
    assert store.read() is None


def test_a_module_that_is_not_there_is_not_found(open_again: Open, modules: dict[str, Module]) -> None:
    store = open_again()
    store.drop_module(modules["a"].ref)
    with pytest.raises(ModuleNotFound):
        store.get_module(modules["a"].ref)
    with pytest.raises(InvalidInput, match="module: got 'a'; accepted: name@sha256:<64 hex digits>"):
        store.get_module("a")


def test_only_what_is_not_declared_is_dropped(open_again: Open, modules: dict[str, Module]) -> None:
    store = open_again()
    for module in modules.values():
        store.put_module(module)
    store.write(declared(modules["a"]))
    for module in modules.values():
        store.drop_module(module.ref)
    assert store.get_module(modules["a"].ref).ref == modules["a"].ref
    with pytest.raises(ModuleNotFound):
        store.get_module(modules["b"].ref)
    store.put_module(modules["b"])
    assert open_again().get_module(modules["b"].ref).ref == modules["b"].ref


def test_later_files_of_a_module_are_renewed(open_again: Open, modules: dict[str, Module], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(modules["a"].path, tmp_path / "copy"))
    store, other = open_again(), open_again()
    store.put_module(modules["a"])
    assert other.get_module(modules["a"].ref).scores() is None
    (copy / "eval.json").write_text('{"quality": 1}')
    (copy / "model.sig").write_text("{}")
    store.put_module(Module.open(copy))
    for reader in (store, other, open_again()):
        found = reader.get_module(modules["a"].ref)
        assert found.scores() == {"quality": 1}
        assert (found.path / "model.sig").read_text() == "{}"


def test_a_module_whose_files_changed_since_it_was_opened_is_not_kept(
    open_again: Open, modules: dict[str, Module], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(modules["a"].path, tmp_path / "copy"))
    module = Module.open(copy)
    shutil.rmtree(copy)
    shutil.copytree(modules["b"].path, copy)
    store = open_again()
    with pytest.raises(ModuleCorrupt, match="sha256:"):
        store.put_module(module)
    with pytest.raises(ModuleNotFound):
        store.get_module(module.ref)


def test_memory_keeps_one_servers_state(modules: dict[str, Module]) -> None:
    store: StateStore = MemoryStore()
    store.put_module(modules["a"])
    store.write(declared(modules["a"]))
    with pytest.raises(StateConflict):
        store.write(declared(modules["a"]))
    assert store.read() == declared(modules["a"])
    assert not store.changed()
    store.drop_module(modules["a"].ref)
    assert store.get_module(modules["a"].ref) == modules["a"]
    store.write(DeclaredState(generation=2))
    store.drop_module(modules["a"].ref)
    with pytest.raises(ModuleNotFound):
        store.get_module(modules["a"].ref)


def test_a_place_that_can_not_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place, message in {
        str(tmp_path / "file" / "state"): "can't be read or written: .*Not a directory",
        "nothing://bucket/state": "ValueError: Protocol not known: nothing",
    }.items():
        with pytest.raises(StateUnavailable, match=message):
            open_store(place, tmp_path / "cache")
