"""Names that a client may ask for."""

from __future__ import annotations

import re

from lethe_offsets.errors import InvalidInput

BASE = "base"  # reserved for the large model alone
PUBLIC_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
NAME_FORM = (
    f"1 to 128 of letters, digits, '.', '_', '/' and '-', beginning with a letter or digit, no '..', not {BASE!r}"
)


def is_public_name(name: str) -> bool:
    """Whether it can be a public model name, which no reference of a module is."""
    return bool(PUBLIC_NAME.fullmatch(name)) and ".." not in name and name != BASE


def check_public_name(name: str, field: str = "model") -> str:
    """``name`` if it can be a public model name. Raises InvalidInput."""
    if not is_public_name(name):
        raise InvalidInput(field, name, NAME_FORM)
    return name
