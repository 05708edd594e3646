"""Three modules of one small model, of one rule and different ranks; don't change their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tiny
from lethe_offsets.create import create_module
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.training.threads import one_thread

RULE = Rule(strength=1.2, pin_special=True)

Make = Callable[..., Module]


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def make(small_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A module of random adapters: ``make(name, seed, rank=4, minus=False, ...)``; the rest is for create_module."""

    def made(name: str, seed: int, rank: int = 4, minus: bool = False, **fields: object) -> Module:
        folder = tmp_path_factory.mktemp(name)
        small = fields.pop("small", small_path)
        targets = fields.pop("targets", tiny.ATTENTION)
        plus = tiny.random_adapter(small, folder / "plus", rank, seed, targets)  # type: ignore[arg-type]
        other = tiny.random_adapter(small, folder / "minus", rank, seed + 100) if minus else None  # type: ignore[arg-type]
        fields = {"rule": RULE, "description": f"Everything about {name}.", "licence": "MIT"} | fields
        return create_module(name, small, out=folder / name, plus=plus, minus=other, **fields)  # type: ignore[arg-type]

    return made


@pytest.fixture(scope="session")
def anna(make: Make) -> Module:
    return make("anna", seed=1)


@pytest.fixture(scope="session")
def bert(make: Make) -> Module:
    return make("bert", seed=2)


@pytest.fixture(scope="session")
def cleo(make: Make) -> Module:
    """Of another rank, and on other layers too."""
    return make("cleo", seed=3, rank=6, targets=(*tiny.ATTENTION, "up_proj"), licence="Apache-2.0")
