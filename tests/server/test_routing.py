from __future__ import annotations

import pytest

from lethe_offsets.errors import InvalidInput
from lethe_server.names import check_public_name
from lethe_server.routing import Choice, RouteTable, choose
from lethe_server.state.declared import RouteSpec, Target
from worlds import World, declared, ref, refs, spec

CLIENTS = [f"client-{number}" for number in range(4000)]


@pytest.fixture
async def routes() -> RouteTable:
    world = World()
    await world.start(declared("ab", public="a"))
    return world.routes


def weighted(**weights: float) -> RouteSpec:
    return RouteSpec(targets=tuple(Target(modules=refs(name), weight=weight) for name, weight in weights.items()))


def share(made: RouteSpec, name: str) -> float:
    return sum(choose(made, "m", client).modules == refs(name) for client in CLIENTS) / len(CLIENTS)


@pytest.mark.parametrize("name", ["a", "Org/Model-7B", "a.b_c-d", "x" * 128])
def test_public_names(name: str) -> None:
    assert check_public_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "base", "a..b", "../a", "/a", "a b", "a@sha256:0", "a\n", "ä", "x" * 129, "-a", "a%2f", "a?b"]
)
def test_names_that_can_not_be_public(name: str) -> None:
    with pytest.raises(InvalidInput, match="model"):
        check_public_name(name)


def test_public_names_and_nothing_else_is_routed(routes: RouteTable) -> None:
    assert routes.resolve("public", "x") == Choice(refs("a"))
    for hidden in ("a", "base", ref("a"), ref("b"), ref("b")[:18], "", "other"):
        assert routes.resolve(hidden, "x") is None


def test_who_measures_gets_references_and_the_base(routes: RouteTable) -> None:
    assert routes.resolve_ref(ref("b")) == routes.resolve_ref(ref("b")[:18]) == Choice(refs("b"))
    assert routes.resolve_ref("base") == Choice(())
    for unknown in ("a", "public", "other", "c@sha256:00000000", "b@", "@"):
        assert routes.resolve_ref(unknown) is None
    routes.residents.closing.add(ref("b"))
    assert routes.resolve_ref(ref("b")) is None


def test_a_flip_exchanges_everything_at_once(routes: RouteTable) -> None:
    routes.flip(declared("ab", 2, other="b", another="base"))
    assert routes.names() == ["another", "other"]
    assert routes.resolve("public", "x") is None
    assert routes.resolve("another", "x") == Choice(())


def test_clients_are_shared_out_by_weight() -> None:
    assert share(weighted(a=95, b=5), "b") == pytest.approx(0.05, abs=0.015)
    assert share(weighted(a=1, b=1, c=2), "c") == pytest.approx(0.5, abs=0.04)
    assert share(weighted(a=1e-300, b=1e300), "a") == 0


def test_a_client_stays_where_it_is() -> None:
    made = weighted(a=1, b=1)
    assert [choose(made, "m", client) for client in CLIENTS] == [choose(made, "m", client) for client in CLIENTS]


def test_raising_a_canarys_weight_moves_clients_only_towards_it() -> None:
    before = {client: choose(weighted(a=80, b=10, c=10), "m", client).modules for client in CLIENTS}
    after = {client: choose(weighted(a=80, b=10, c=40), "m", client).modules for client in CLIENTS}
    moved = {client for client in CLIENTS if before[client] != after[client]}
    assert moved
    assert {after[client] for client in moved} == {refs("c")}


def test_routes_share_their_clients_out_apart() -> None:
    made = weighted(a=1, b=1)
    same = sum(choose(made, "m", client) == choose(made, "n", client) for client in CLIENTS) / len(CLIENTS)
    assert same == pytest.approx(0.5, abs=0.04)


def test_the_order_of_targets_does_not_matter() -> None:
    turned = RouteSpec(targets=spec("a", "b").targets[::-1])
    assert all(choose(turned, "m", client) == choose(spec("a", "b"), "m", client) for client in CLIENTS)
