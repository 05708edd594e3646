"""A vLLM that Lethe doesn't know is refused before anything of it is imported."""

from __future__ import annotations

import pytest

from lethe_server import versions
from lethe_server.errors import StartupFailed


def test_the_installed_one_is_known() -> None:
    assert versions.installed() is not None
    versions.check()


@pytest.mark.parametrize("found", ["0.26.0", "0.33.1", "0.32.0+cu130"])
def test_a_known_one_passes(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    monkeypatch.setattr(versions, "installed", lambda: found)
    versions.check()


@pytest.mark.parametrize("found", ["0.25.1", "0.34.0", "1.0.0"])
def test_another_one_is_refused_with_the_range(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    monkeypatch.setattr(versions, "installed", lambda: found)
    with pytest.raises(StartupFailed, match=rf"vLLM {found} is installed; Lethe knows <0\.34,>=0\.26"):
        versions.check()


def test_none_is_left_to_the_command_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "DISTRIBUTIONS", ("no-such-distribution",))
    versions.check()
