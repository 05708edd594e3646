"""Two servers over one state directory: they serve the same, and a restarted one comes back to it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit import Kit
from server_process import ADMIN_KEY, Server, serving

pytestmark = pytest.mark.engine
AGREE_S = 10.0  # far more than it takes


def arguments(kit: Kit, folder: Path) -> list[str]:
    modules = kit.modules["plain"].path.parent
    return ["--state-dir", str(folder / "state"), "--cache-dir", str(folder / "cache"), "--module-source", str(modules)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replicas")


@pytest.fixture(scope="module")
def first(kit: Kit, folder: Path) -> Iterator[Server]:
    """Declares what its command line says."""
    made = ["--module", str(kit.modules["plain"].path), "--route", "model=plain"]
    with serving(folder, kit, [*arguments(kit, folder), *made]) as running:
        yield running


@pytest.fixture(scope="module")
def second(kit: Kit, folder: Path, first: Server) -> Iterator[Server]:
    """Is told nothing but where the state is."""
    with serving(folder, kit, arguments(kit, folder)) as running:
        yield running


def admin(server: Server, method: str, path: str, **options: Any) -> Any:
    with server.http(ADMIN_KEY) as http:
        response = http.request(method, path, **options)
    assert response.is_success, response.text
    return response.json() if response.content else None


def agreed(server: Server, generation: int) -> float:
    """Seconds until the server has observed a generation."""
    began = time.monotonic()
    while time.monotonic() < began + AGREE_S:
        state = admin(server, "GET", "/admin/state")
        if state["observed_generation"] == generation:
            assert (state["generation"], state["error"]) == (generation, None)
            return time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError(state)


def answer(server: Server, model: str = "model") -> tuple[str, Any]:
    """What answered, and how."""
    body = {"model": model, "prompt": "One, two, three", "max_tokens": 8, "temperature": 0, "return_token_ids": True}
    with server.http(ADMIN_KEY) as http:
        response = http.post("/v1/completions", json=body)
    assert response.is_success, response.text
    return response.headers["x-lethe-module"], response.json()["choices"][0]["token_ids"]


def test_both_serve_what_one_was_told(kit: Kit, first: Server, second: Server) -> None:
    assert answer(first) == answer(second)
    assert answer(second)[0] == kit.modules["plain"].ref


def test_a_change_by_one_is_followed_by_the_other(kit: Kit, first: Server, second: Server) -> None:
    before = answer(first)
    took = []
    for changing, following in ((first, second), (second, first)):
        added = admin(changing, "POST", "/admin/modules", json={"source": str(kit.modules["both"].path)})
        for change in ("PUT", "POST"):
            path = "/admin/routes/model" + ("/rollback" if change == "POST" else "")
            body = {"json": {"module": added["ref"]}} if change == "PUT" else {}
            changed = admin(changing, change, path, **body)
            took.append(agreed(following, changed["generation"]))
            assert answer(following) == answer(changing)
            assert (answer(following)[0] == added["ref"]) == (change == "PUT")
        admin(changing, "DELETE", f"/admin/modules/{added['ref']}")
        agreed(following, changed["generation"] + 1)
        assert [each["name"] for each in admin(following, "GET", "/admin/modules")] == ["plain"]
    print(f"agreed within {max(took):.2f} s")
    assert answer(first) == before


def test_one_of_two_who_change_the_same_generation_is_refused(first: Server, second: Server) -> None:
    generation = admin(first, "GET", "/admin/state")["generation"]
    headers = {"If-Match": f'"{generation}"'}
    admin(first, "PUT", "/admin/routes/another", json={"module": "plain"}, headers=headers)
    with second.http(ADMIN_KEY) as http:
        refused = http.put("/admin/routes/third", json={"module": "plain"}, headers=headers)
    assert refused.status_code == 412
    agreed(second, generation + 1)


def test_after_a_kill_a_server_comes_back_to_the_same(kit: Kit, folder: Path, first: Server, second: Server) -> None:
    before = answer(first), admin(first, "GET", "/admin/routes"), admin(first, "GET", "/admin/state")
    first.stop(signal.SIGKILL)
    other = ["--module", str(kit.modules["ranked"].path), "--route", "model=ranked"]  # the state wins
    with serving(folder, kit, [*arguments(kit, folder), *other]) as again:
        assert (answer(again), admin(again, "GET", "/admin/routes"), admin(again, "GET", "/admin/state")) == before
        assert "declares other routes" in again.log.read_text()
        generation = admin(again, "PUT", "/admin/routes/fourth", json={"module": "plain"})["generation"]
        agreed(second, generation)
