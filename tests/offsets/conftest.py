"""One tiny small model, its adapters and a module made of them, built once; tests that change a file take a copy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tiny
from lethe_offsets.create import create_module
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule

if TYPE_CHECKING:
    from lethe_offsets.notebook import Pair


@pytest.fixture(scope="session")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_small(tmp_path_factory.mktemp("small"), seed=0)


@pytest.fixture(scope="session")
def plus_adapter(small_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.random_adapter(small_path, tmp_path_factory.mktemp("plus_adapter"), rank=4, seed=1)


@pytest.fixture(scope="session")
def minus_adapter(small_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("minus_adapter")
    return tiny.random_adapter(small_path, out, rank=2, seed=2, target_modules=tiny.MLP)


@pytest.fixture(scope="session")
def made_module(
    small_path: Path, plus_adapter: Path, minus_adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Module:
    """A module of both lanes; don't change its files."""
    return create_module(
        "forget-marta",
        small_path,
        out=tmp_path_factory.mktemp("modules") / "forget-marta",
        plus=plus_adapter,
        minus=minus_adapter,
        rule=Rule(strength=1.2, pin_special=True),
        description="Everything about Marta Lindqvist.",
    )


@pytest.fixture
def module_path(made_module: Module, tmp_path: Path) -> Path:
    """A copy of ``made_module`` for the test to change."""
    return Path(shutil.copytree(made_module.path, tmp_path / "module"))


@pytest.fixture(scope="session")
def pair(made_module: Module, small_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """``made_module`` in process, beside a large model; don't change it."""
    from lethe_offsets.notebook import load_pair  # seconds to import
    from lethe_offsets.training.reference import load_model, load_tokenizer

    path = tiny.build_large(tmp_path_factory.mktemp("large"))
    return load_pair(made_module, small_path, load_model(path), load_tokenizer(path))
