from __future__ import annotations

import pytest

from fakes import module
from lethe_offsets.errors import InvalidInput, ModuleNotFound
from lethe_server.residents import Residents
from lethe_server.routing import RouteTable, check_public_name, plan_routes


@pytest.mark.parametrize("name", ["a", "Org/Model-7B", "a.b_c-d", "x" * 128])
def test_public_names(name: str) -> None:
    assert check_public_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "base", "a..b", "../a", "/a", "a b", "a@sha256:0", "a\n", "ä", "x" * 129, "-a", "a%2f", "a?b"]
)
def test_names_that_can_not_be_public(name: str) -> None:
    with pytest.raises(InvalidInput, match="model"):
        check_public_name(name)


def test_the_only_module_takes_the_served_name() -> None:
    only = module("m")
    assert plan_routes({}, "served", [only], False) == {"served": only.ref}


def test_several_modules_need_routes_and_the_message_shows_them() -> None:
    with pytest.raises(InvalidInput, match=r"--route PUBLIC=a --route PUBLIC=b"):
        plan_routes({}, "served", [module("a"), module("b")], False)
    with pytest.raises(InvalidInput, match=r"--route PUBLIC=a@sha256:"):
        plan_routes({}, "served", [module("a", "1"), module("a", "2")], False)


def test_no_module_needs_leave() -> None:
    with pytest.raises(InvalidInput, match="--allow-unprotected"):
        plan_routes({}, "served", [], False)
    assert plan_routes({}, "served", [], True) == {"served": None}


def test_routes_name_modules_by_name_or_reference() -> None:
    a, b = module("a"), module("b")
    assert plan_routes({"x": "a", "y": b.ref, "z": b.ref[:18]}, "", [a, b], False) == {
        "x": a.ref,
        "y": b.ref,
        "z": b.ref,
    }


def test_route_to_the_large_model_alone_needs_leave() -> None:
    with pytest.raises(InvalidInput, match=r"routes\.x.*--allow-unprotected"):
        plan_routes({"x": "base"}, "", [module("a")], False)
    assert plan_routes({"x": "base"}, "", [module("a")], True) == {"x": None}


def test_routes_that_can_not_be() -> None:
    with pytest.raises(ModuleNotFound):
        plan_routes({"x": "other"}, "", [module("a")], False)
    with pytest.raises(InvalidInput, match="routes"):
        plan_routes({"a@b": "a"}, "", [module("a")], False)


def test_a_client_gets_public_names_only(residents: Residents) -> None:
    routes = RouteTable(residents)
    a, b = residents.modules()
    routes.point("public", a)
    assert routes.resolve("public", admin=False) is a
    for hidden in ("a", "base", a.ref, b.ref, b.ref[:18], "", "other"):
        assert routes.resolve(hidden, admin=False) is None


def test_an_admin_gets_references_and_the_base_as_well(residents: Residents) -> None:
    routes = RouteTable(residents)
    a, b = residents.modules()
    routes.point("public", a)
    assert routes.resolve("public", admin=True) is a
    assert routes.resolve(b.ref, admin=True) is b
    assert routes.resolve(b.ref[:18], admin=True) is b
    assert routes.resolve("base", admin=True) is residents.base
    for unknown in ("a", "other", "c@sha256:00000000", "b@", "@"):
        assert routes.resolve(unknown, admin=True) is None


def test_a_module_being_deleted_takes_no_new_request(residents: Residents) -> None:
    a, _ = residents.modules()
    a.closing = True
    assert RouteTable(residents).resolve(a.ref, admin=True) is None


def test_pointing_a_route(residents: Residents) -> None:
    routes = RouteTable(residents)
    a, b = residents.modules()
    assert routes.point("x", a) is None
    assert routes.point("x", b) is a
    routes.point("y", b)
    assert routes.names() == ["x", "y"]
    assert routes.naming(b) == ["x", "y"]
    assert routes.naming(a) == []
