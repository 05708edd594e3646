"""Pairs of keys for signatures, as ``openssl`` makes them."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_keys(directory: Path, name: str, curve: str = "prime256v1") -> tuple[Path, Path]:
    """A private and a public key: ``<name>.key`` and ``<name>.pem``."""
    private, public = directory / f"{name}.key", directory / f"{name}.pem"
    for command in (
        ["openssl", "ecparam", "-genkey", "-name", curve, "-noout", "-out", private],
        ["openssl", "ec", "-in", private, "-pubout", "-out", public],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return private, public
