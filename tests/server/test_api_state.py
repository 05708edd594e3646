"""A server whose state lies in a bucket, killed in the midst of a change."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from buckets import s3_bucket
from kit import Kit
from lethe_server.state.declared import DeclaredState
from lethe_server.state.store import open_store
from server_process import ADMIN_KEY, Server, serving

pytestmark = pytest.mark.engine
KILL_AFTER_S = 0.3  # about half of the change


def arguments(kit: Kit, state: str, cache: Path) -> list[str]:
    modules = kit.modules["plain"].path.parent
    return ["--state-dir", state, "--cache-dir", str(cache), "--module-source", str(modules)]


def first_arguments(kit: Kit) -> list[str]:
    return ["--module", str(kit.modules["plain"].path), "--route", "model=plain"]


def admin(server: Server, method: str, path: str, **options: Any) -> Any:
    with server.http(ADMIN_KEY) as http:
        response = http.request(method, path, **options)
    assert response.is_success, response.text
    return response.json()


def declared_whole(state: str, cache: Path) -> DeclaredState:
    """What is declared; every module of it can be read."""
    store = open_store(state, cache)
    found = store.read()
    assert found is not None
    for ref in found.catalog:
        assert store.get_module(ref).ref == ref
    return found


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("state") as url:
        yield url


def test_a_server_killed_in_a_change_comes_back_from_the_bucket_alone(kit: Kit, tmp_path: Path, bucket: str) -> None:
    """To the old state or the new one. The steps of a write to a directory are killed in the tests of the store."""
    state = f"{bucket}/lethe"
    added = kit.modules["both"].ref

    def change(server: Server) -> None:
        try:
            admin(server, "POST", "/admin/modules", json={"source": str(kit.modules["both"].path)})
            admin(server, "PUT", "/admin/routes/model", json={"module": added})
        except httpx.TransportError:  # the server is gone
            pass

    first = [*arguments(kit, state, tmp_path / "one"), *first_arguments(kit)]
    with serving(tmp_path, kit, first, cold=True) as server:
        work = threading.Thread(target=change, args=(server,))
        work.start()
        work.join(KILL_AFTER_S)
        engine = server.processes()
        server.stop(signal.SIGKILL)
        work.join()
        assert engine
        assert psutil.wait_procs(engine, timeout=30)[1] == []
    left = declared_whole(state, tmp_path / "read")
    assert left.generation in (1, 2, 3)
    assert (added in left.catalog) == (left.generation > 1)
    expected = kit.modules["both" if left.generation == 3 else "plain"].ref
    assert left.routes["model"].refs() == {expected}
    with serving(tmp_path, kit, arguments(kit, state, tmp_path / "two")) as again:
        shown = admin(again, "GET", "/admin/state")
        assert (shown["observed_generation"], shown["error"]) == (left.generation, None)
        assert again.answered_by("model") == expected
        change(again)
        assert again.answered_by("model") == added
    assert declared_whole(state, tmp_path / "read again").generation == 3
