"""The transitions of the declared state, each against what it promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fakes import digest
from lethe_offsets.errors import InvalidInput, LetheError, ModuleNotFound
from lethe_server.errors import ModelNotFound, ModuleBusy
from lethe_server.state.declared import MAX_HISTORY, DeclaredState, RouteSpec, Shadow, Source, Target


def ref(name: str) -> str:
    return f"{name}@{digest(name)}"


A, B, C = (ref(name) for name in "abc")


def spec(*groups: tuple[str, ...], shadow: tuple[str, ...] | None = None) -> RouteSpec:
    shade = None if shadow is None else Shadow(modules=shadow, share=0.5)
    return RouteSpec(targets=tuple(Target(modules=group) for group in groups), shadow=shade)


@pytest.fixture
def state() -> DeclaredState:
    made = DeclaredState()
    for each in (A, B, C):
        made = made.with_module(Source(ref=each, source=f"/modules/{each}"))
    return made


def test_each_change_is_a_new_generation_and_leaves_the_old_state_as_it_was(state: DeclaredState) -> None:
    before = state.model_dump()
    pointed = state.with_route("m", spec((A,)))
    assert (state.generation, pointed.generation) == (3, 4)
    assert pointed.routes == {"m": spec((A,))}
    assert state.model_dump() == before


def test_the_order_of_modules_means_nothing() -> None:
    assert spec((B, A)) == spec((A, B))
    with pytest.raises(ValidationError, match="targets must differ"):
        spec((A, B), (B, A))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.with_module(Source(ref=A, source="/elsewhere")),
        lambda state: state.with_route("m", spec((A,))),
    ],
)
def test_what_would_change_nothing_is_no_new_generation(
    state: DeclaredState, change: Callable[[DeclaredState], DeclaredState]
) -> None:
    pointed = state.with_route("m", spec((A,)))
    assert change(pointed) is pointed


def test_rollback_goes_back_and_a_second_one_undoes_it(state: DeclaredState) -> None:
    state = state.with_route("m", spec((A,))).with_route("m", spec((B,))).with_route("m", spec((C,)))
    back = state.rolled_back("m")
    assert back.routes["m"] == spec((B,))
    assert back.history["m"] == (spec((A,)), spec((C,)))
    again = back.rolled_back("m")
    assert (again.routes, again.history) == (state.routes, state.history)
    assert again.generation == state.generation + 2


def test_history_is_bounded_and_keeps_the_newest(state: DeclaredState) -> None:
    specs = [spec((A, B)), spec((A,)), *[spec((A,), (B,)), spec((B,))] * MAX_HISTORY]
    for each in specs:
        state = state.with_route("m", each)
    assert state.history["m"] == tuple(specs[-MAX_HISTORY - 1 : -1])


def test_a_deleted_route_takes_its_history_along(state: DeclaredState) -> None:
    state = state.with_route("m", spec((A,))).with_route("m", spec((B,))).without_route("m").with_route("m", spec((C,)))
    with pytest.raises(InvalidInput, match="model: got 'm'"):
        state.rolled_back("m")


@pytest.mark.parametrize(
    "named",
    [spec((A,)), spec((B, A)), spec((B,), (C, A)), spec((B,), shadow=(A,))],
    ids=["alone", "merged", "share", "shadow"],
)
def test_a_module_that_a_route_names_stays(state: DeclaredState, named: RouteSpec) -> None:
    state = state.with_route("m", named)
    assert state.named() == {ref: ["m"] if ref in named.refs() else [] for ref in (A, B, C)}
    with pytest.raises(ModuleBusy, match="named by m"):
        state.without_module(A)
    assert A not in state.with_route("m", spec((B,))).without_module(A).catalog


def test_rollback_to_a_module_that_is_gone_is_refused(state: DeclaredState) -> None:
    state = state.with_route("m", spec((A,))).with_route("m", spec((B,))).without_module(A)
    with pytest.raises(ModuleNotFound, match="a@"):
        state.rolled_back("m")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda state: state.without_module(ref("z")), ModuleNotFound),
        (lambda state: state.with_route("m", spec((ref("z"),))), ModuleNotFound),
        (lambda state: state.with_route("m", spec((A,), shadow=(ref("z"),))), ModuleNotFound),
        (lambda state: state.with_route("base", spec((A,))), InvalidInput),
        (lambda state: state.with_route("../m", spec((A,))), InvalidInput),
        (lambda state: state.without_route("m"), ModelNotFound),
        (lambda state: state.rolled_back("m"), ModelNotFound),
        (lambda state: state.with_route("m", spec((A,))).rolled_back("m"), InvalidInput),
    ],
)
def test_what_can_not_be_is_refused(
    state: DeclaredState, change: Callable[[DeclaredState], DeclaredState], error: type[LetheError]
) -> None:
    with pytest.raises(error):
        change(state)


def test_references_may_be_short(state: DeclaredState) -> None:
    assert state.resolve("a") == state.resolve(A[: len("a@sha256:") + 8]) == A
    other = f"a@{digest('another version')}"
    with pytest.raises(InvalidInput, match="one of"):
        state.with_module(Source(ref=other, source="")).resolve("a")


@pytest.mark.parametrize(
    "wrong",
    [
        {"routes": {"m": {"targets": []}}},
        {"routes": {"m": {"targets": [{"modules": [A], "weight": 0}]}}},
        {"routes": {"m": {"targets": [{"modules": [A], "weight": float("inf")}]}}},
        {"routes": {"m": {"targets": [{"modules": [A]}, {"modules": [A]}]}}},
        {"routes": {"m": {"targets": [{"modules": [A, A]}]}}},
        {"routes": {"m": {"targets": [{"modules": ["a"]}]}}},
        {"routes": {"m": {"targets": [{"modules": [B]}]}}},
        {"routes": {"m": {"targets": [{"modules": [A]}], "shadow": {"modules": [A], "share": 0}}}},
        {"routes": {"base": {"targets": [{"modules": [A]}]}}},
        {"catalog": {B: {"ref": A, "source": ""}}},
        {"format_version": 2},
        {"generation": -1},
        {"surplus": 1},
    ],
)
def test_a_state_that_can_not_be_is_not_read(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"catalog": {A: {"ref": A, "source": "/a"}}}
    DeclaredState.model_validate(right)
    with pytest.raises(ValidationError):
        DeclaredState.model_validate({**right, **wrong})


specs = st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=3, unique=True).map(lambda refs: spec(tuple(refs)))
steps = st.one_of(
    st.tuples(st.just("with_route"), st.sampled_from(["m", "n"]), specs),
    st.tuples(st.sampled_from(["without_route", "rolled_back"]), st.sampled_from(["m", "n"])),
    st.tuples(st.just("without_module"), st.sampled_from([A, B, C])),
    st.tuples(st.just("with_module"), st.sampled_from([A, B, C]).map(lambda known: Source(ref=known, source="/a"))),
)


@given(st.lists(steps, max_size=30))
def test_whatever_is_done_the_state_can_be_written_and_read_again(changes: list[tuple[Any, ...]]) -> None:
    state = DeclaredState()
    for method, *arguments in changes:
        before = state
        try:
            state = getattr(state, method)(*arguments)
        except LetheError:
            state = before
        assert DeclaredState.model_validate_json(state.model_dump_json()) == state
        assert state.generation - before.generation == int(state is not before)
