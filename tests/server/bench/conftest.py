from __future__ import annotations

import pytest

from kit import Kit, build_kit


@pytest.fixture(scope="session")
def bench_kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Both models with logits of one width, as the peers take them to have."""
    return build_kit(tmp_path_factory.mktemp("bench-kit"), vocab_padding=0)
