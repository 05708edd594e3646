"""Requests drawn from a server's own OpenAPI description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

Draw = Callable[[list[Any]], Any]


def operations(url: str) -> list[Any]:
    """Every operation that a running server describes."""
    return [each.ok() for each in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()]


def fuzz(operation: Any, num_examples: int, send: Callable[[schemathesis.Case, Draw], None]) -> None:
    """``num_examples`` cases of an operation, the same ones each time; ``send`` may draw parts of its own."""

    @settings(
        max_examples=num_examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(), st.data())
    def run(case: schemathesis.Case, data: st.DataObject) -> None:
        send(case, lambda choices: data.draw(st.sampled_from(choices)))

    run()
