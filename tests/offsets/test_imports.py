"""What an import may bring with it, seen in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lethe_offsets


def modules_after(statement: str) -> set[str]:
    """Top-level packages loaded once ``statement`` has run."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("statement", "needed", "forbidden"),
    [
        ("import lethe_offsets", set(), {"torch", "vllm", "transformers", "pydantic", "typer", "peft", "lethe_server"}),
        ("from lethe_offsets import load_module", {"torch", "transformers", "peft"}, {"vllm", "lethe_server"}),
        ("import lethe_offsets.pair", {"torch"}, {"vllm", "transformers", "pydantic", "peft", "lethe_server"}),
        ("import lethe_offsets.cli", {"typer"}, {"vllm", "torch", "transformers", "pydantic", "lethe_server"}),
        ("import lethe_offsets.module_cli", {"typer"}, {"torch", "vllm", "transformers", "peft", "lethe_server"}),
        ("import lethe_offsets.training.command", {"typer"}, {"torch", "transformers", "pydantic", "lethe_server"}),
        ("import lethe_offsets.catalog", set(), {"torch", "vllm", "transformers", "peft", "lethe_server"}),
        (
            "from typer.testing import CliRunner\nfrom lethe_offsets.cli import app\n"
            "assert CliRunner().invoke(app, ['--help']).exit_code == 0",
            {"typer"},
            {"vllm", "torch", "transformers", "lethe_server"},
        ),
    ],
)
def test_an_import_stays_within_its_bounds(statement: str, needed: set[str], forbidden: set[str]) -> None:
    loaded = modules_after(statement)
    assert needed <= loaded
    assert not loaded & forbidden


def test_the_package_names_what_it_offers() -> None:
    for name in lethe_offsets.__all__:
        assert getattr(lethe_offsets, name).__name__ == name
    assert set(lethe_offsets.__all__) <= set(dir(lethe_offsets))
    with pytest.raises(AttributeError, match="no attribute 'load_pairs'"):
        _ = lethe_offsets.load_pairs
