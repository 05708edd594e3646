"""The declared state as YAML, for people and programs."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from lethe_server.errors import StateInvalid
from lethe_server.state.declared import DeclaredState

HEADER = """\
# What Lethe serves. Every server of this state watches this file and writes it on changes by the admin API.
# By hand: write a copy and move it here, with a generation of at least the one below.
"""

if TYPE_CHECKING:
    from yaml import SafeDumper as _Dumper
    from yaml import SafeLoader as _SafeLoader
else:  # libyaml where it is built in: ten times as fast, and a state can name a thousand modules
    _Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML's usual readers drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        if len(found) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key stands here twice", node.start_mark)
        return found


def as_text(state: DeclaredState) -> bytes:
    """The state as YAML, in the order of its fields."""
    content = state.model_dump(mode="json", exclude_none=True)
    return HEADER.encode() + yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, encoding="utf-8")


def as_state(text: bytes, file: str) -> DeclaredState:
    """The state in the text of ``file``. Raises StateInvalid with the first problem."""
    try:
        return DeclaredState.model_validate(yaml.load(text, _Loader))
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise StateInvalid(file, " ".join(str(err).split())) from err
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StateInvalid(file, f"{place or 'the whole'}: {first['msg'].removeprefix('Value error, ')}") from err
    except RecursionError as err:
        raise StateInvalid(file, "nested too deeply") from err
