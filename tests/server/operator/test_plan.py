from __future__ import annotations

import pytest

from lethe_offsets.errors import InvalidInput
from lethe_server.operator.client import RouteInfo, ShadowInfo, TargetInfo
from lethe_server.operator.plan import plan_canary, plan_shadow, plan_swap
from lethe_server.operator.show import short, together
from lethe_server.operator.waiting import replaced

A, B, C = (f"{name}@sha256:{name * 64}" for name in "abc")


def route(*targets: tuple[list[str], float], shadow: ShadowInfo | None = None) -> RouteInfo:
    return RouteInfo(
        model="m", targets=[TargetInfo(modules=modules, weight=weight) for modules, weight in targets], shadow=shadow
    )


def test_a_swap_leaves_nothing_else() -> None:
    assert plan_swap([A]) == {"module": A}
    assert plan_swap([B, A]) == {"modules": [A, B]}
    assert plan_swap(["base"]) == {"module": "base"}


def test_a_canary_takes_its_share_from_the_others_as_they_were_shared_out() -> None:
    assert plan_canary(route(([A], 1)), [B], 5, "m") == {
        "targets": [{"module": A, "weight": 95}, {"module": B, "weight": 5}]
    }
    shared = plan_canary(route(([A], 3), ([B], 1)), [C], 20, "m")
    assert shared["targets"] == [
        {"module": A, "weight": 60},
        {"module": B, "weight": 20},
        {"module": C, "weight": 20},
    ]


def test_a_canary_is_raised_where_it_is() -> None:
    first = plan_canary(route(([A], 95), ([B], 5)), [B], 50, "m")
    assert first["targets"] == [{"module": A, "weight": 50}, {"module": B, "weight": 50}]
    merged = plan_canary(route(([A], 95), ([B, C], 5)), [C, B], 10, "m")
    assert merged["targets"] == [{"module": A, "weight": 90}, {"modules": [B, C], "weight": 10}]


def test_a_canary_beside_the_large_model_alone() -> None:
    planned = plan_canary(route(([], 1)), [A], 5, "m")
    assert planned["targets"] == [{"module": "base", "weight": 95}, {"module": A, "weight": 5}]


@pytest.mark.parametrize("present", [None, route(([A], 1))])
def test_a_canary_needs_something_else_that_answers(present: RouteInfo | None) -> None:
    with pytest.raises(InvalidInput, match="nothing else"):
        plan_canary(present, [A], 5, "m")


def test_a_shadow_leaves_who_answers_and_a_canary_leaves_the_shadow() -> None:
    assert plan_shadow(route(([A], 1)), [B], 10, "m") == {
        "targets": [{"module": A, "weight": 1}],
        "shadow": {"module": B, "share": 0.1},
    }
    shadowed = route(([A], 1), shadow=ShadowInfo(modules=[C], share=0.5))
    assert plan_canary(shadowed, [B], 5, "m")["shadow"] == {"module": C, "share": 0.5}
    assert plan_shadow(shadowed, [C], 0, "m") == {"targets": [{"module": A, "weight": 1}]}
    with pytest.raises(InvalidInput, match="has none"):
        plan_shadow(None, [B], 10, "m")


def test_who_is_waited_for() -> None:
    assert replaced(route(([A], 95), ([B, C], 5)), route(([B], 1))) == [A, C]
    assert replaced(route(([A], 1)), route(([A], 95), ([B], 5))) == []
    assert replaced(None, route(([A], 1))) == []


def test_references_as_they_are_shown() -> None:
    assert short(A) == "a@sha256:aaaaaaaa"
    assert together([]) == "base"
    assert together([A, B]) == "a@sha256:aaaaaaaa + b@sha256:bbbbbbbb"
