from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lethe_server.audit.log import AuditLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def log(path: Path) -> Iterator[AuditLog]:
    made = AuditLog(path)
    yield made
    made.close()
