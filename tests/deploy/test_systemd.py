"""The unit for systemd, and the settings that the operator's page gives it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lethe_server import options, sources
from pages import ROOT, blocks, section

UNIT = ROOT / "deploy/systemd/lethe.service"
COMMAND = "/opt/lethe/bin/lethe"


def value(key: str) -> str:
    (line,) = [line for line in UNIT.read_text().splitlines() if line.startswith(f"{key}=")]
    return line.partition("=")[2]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(COMMAND, str(Path(sys.executable).with_name("lethe"))))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_server_takes_the_settings(tmp_path: Path) -> None:
    page = section("deploy/README.md", "On a GPU machine")
    (block,) = [block for block in blocks(page, "yaml") if "`/etc/lethe/lethe.yaml`" in block.before]
    config = tmp_path / "lethe.yaml"
    config.write_text(block.code)
    settings = sources.load({}, config)
    assert settings.admin_port == 8001
    assert value("ReadWritePaths") in map(str, Path(str(settings.state_dir)).parents)
    assert settings.audit_log is not None
    assert value("ReadWritePaths") in map(str, settings.audit_log.parents)
    assert options.parse(settings.engine).engine["max_model_len"] == 8192


def test_the_drain_fits_into_the_time_to_stop() -> None:
    drain = float(value("Environment").removeprefix("LETHE_DRAIN_TIMEOUT_S="))
    assert drain < float(value("TimeoutStopSec"))
