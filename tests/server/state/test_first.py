from __future__ import annotations

import pytest

from fakes import module
from lethe_offsets.errors import InvalidInput, ModuleNotFound
from lethe_server.state.declared import DeclaredState, Modules
from lethe_server.state.first import check_protected, first_state


def targets(state: DeclaredState) -> dict[str, Modules]:
    return {name: spec.targets[0].modules for name, spec in state.routes.items()}


def test_the_only_module_takes_the_served_name() -> None:
    only = module("m")
    state = first_state({}, "served", [only], False)
    assert targets(state) == {"served": (only.ref,)}
    assert (state.generation, list(state.catalog)) == (1, [only.ref])


def test_several_modules_need_routes_and_the_message_shows_them() -> None:
    with pytest.raises(InvalidInput, match=r"--route PUBLIC=a --route PUBLIC=b"):
        first_state({}, "served", [module("a"), module("b")], False)
    with pytest.raises(InvalidInput, match=r"--route PUBLIC=a@sha256:"):
        first_state({}, "served", [module("a", "1"), module("a", "2")], False)


def test_no_module_needs_leave() -> None:
    with pytest.raises(InvalidInput, match="--allow-unprotected"):
        first_state({}, "served", [], False)
    assert targets(first_state({}, "served", [], True)) == {"served": ()}


def test_routes_name_modules_by_name_or_reference() -> None:
    a, b = module("a"), module("b")
    routes = {"x": "a", "y": b.ref, "z": b.ref[:18]}
    assert targets(first_state(routes, "", [a, b], False)) == {"x": (a.ref,), "y": (b.ref,), "z": (b.ref,)}


def test_a_route_to_the_large_model_alone_needs_leave() -> None:
    with pytest.raises(InvalidInput, match=r"routes\.x.*--allow-unprotected"):
        first_state({"x": "base"}, "", [module("a")], False)
    state = first_state({"x": "base"}, "", [module("a")], True)
    assert targets(state) == {"x": ()}
    check_protected(state, True)
    with pytest.raises(InvalidInput, match=r"routes\.x.*--allow-unprotected"):
        check_protected(state, False)


def test_routes_that_can_not_be() -> None:
    with pytest.raises(ModuleNotFound):
        first_state({"x": "other"}, "", [module("a")], False)
    with pytest.raises(InvalidInput, match="routes"):
        first_state({"a@b": "a"}, "", [module("a")], False)
