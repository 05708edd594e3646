from __future__ import annotations

from typing import Any

import pytest

from lethe_server.errors import FieldRefused
from lethe_server.fields import ASKS_FOR_NOTHING, REFUSED, check_fields

KNOWN = {"model", "prompt", "max_tokens", *REFUSED}


def test_honoured_fields_pass() -> None:
    check_fields({"model": "m", "prompt": "", "max_tokens": None}, KNOWN)


def test_an_unknown_field_names_a_near_one_even_when_it_is_null() -> None:
    with pytest.raises(FieldRefused, match="did you mean 'max_tokens'") as caught:
        check_fields({"model": "m", "max_token": None}, KNOWN)
    assert caught.value.field == "max_token"


@pytest.mark.parametrize("field", sorted(REFUSED))
def test_a_refused_field_may_only_ask_for_nothing(field: str) -> None:
    for nothing in (None, False, *ASKS_FOR_NOTHING.get(field, ())):
        check_fields({field: nothing}, KNOWN)
    with pytest.raises(FieldRefused, match=field):
        check_fields({field: "something"}, KNOWN)


@pytest.mark.parametrize("value", ["x" * 10_000, {"k": ["x"] * 10_000}])
def test_an_error_does_not_echo_a_whole_body(value: Any) -> None:
    with pytest.raises(FieldRefused) as caught:
        check_fields({"unknown": value}, KNOWN)
    assert len(str(caught.value)) < 300
