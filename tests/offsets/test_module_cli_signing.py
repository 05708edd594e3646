from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lethe_offsets.module import Module
from signing_keys import make_keys


def lethe(*arguments: object) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "lethe_offsets.cli", "module", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True)
    return ended.returncode, ended.stdout, ended.stderr


def test_a_module_is_signed_and_verified(module_path: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path, "ours")
    _, other = make_keys(tmp_path, "theirs")
    ref = Module.open(module_path).ref
    demanded = ("verify", module_path, "--trusted-key")

    code, out, err = lethe(*demanded, public)
    assert (code, out) == (1, "")
    assert err == f"lethe: model.sig: got None; accepted: a signature by one of ours on {ref}\n"

    assert lethe("sign", module_path, "--private-key", private) == (0, f"{module_path / 'model.sig'}\n", "")
    assert lethe(*demanded, public) == (0, f"{ref}\n", "")
    assert lethe(*demanded, other, "--trusted-key", public) == (0, f"{ref}\n", "")
    assert lethe("verify", module_path) == (0, f"{ref}\n", "")

    code, out, err = lethe(*demanded, other)
    assert (code, out) == (1, "")
    assert err.startswith('lethe: model.sig: got "theirs: Key mismatch')
    assert err.count("\n") == 1


def test_a_key_that_can_not_sign_is_said_in_one_line(module_path: Path) -> None:
    code, out, err = lethe("sign", module_path, "--private-key", module_path / "README.md")
    assert (code, out) == (1, "")
    assert err.startswith(f"lethe: private_key: got '{module_path / 'README.md'}'; accepted: a PEM file with an unenc")
    assert err.count("\n") == 1
