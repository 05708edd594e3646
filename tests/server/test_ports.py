"""What is answered on which port, by the address that a connection came in by."""

from __future__ import annotations

import httpx
import pytest

from lethe_server.ports import AdminPort, is_inside
from lethe_server.sources import load
from worlds import World, declared

PUBLIC, ADMIN = 8000, 8001
INSIDE = ["/admin", "/admin/state", "/admin/", "/metrics", "/console", "/console/console.js", "//admin", "/a/../admin"]
OUTSIDE = ["/", "/health", "/ready", "/v1/models", "/consoles", "/administration", "/metrics2"]


async def asked(path: str, port: int, host: str = "") -> httpx.Response:
    """host: of the Host header."""
    world = World()
    await world.start(declared("a", public="a"))
    layers = AdminPort(world.application(), ADMIN)
    transport = httpx.ASGITransport(layers)  # the scope's server is that of the URL
    async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{port}") as http:
        return await http.get(path, headers={"host": host} if host else {})


def test_paths_of_those_who_run_the_server() -> None:
    assert [path for path in [*INSIDE, *OUTSIDE] if is_inside(path)] == INSIDE


@pytest.mark.parametrize("path", ["/admin/state", "/admin", "/metrics", "/console"])
async def test_the_public_port_knows_nothing_of_them(path: str) -> None:
    for host in ("", f"127.0.0.1:{ADMIN}"):
        answer = await asked(path, PUBLIC, host)
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == f"Not Found: GET {path}"


async def test_the_port_for_administration_answers_them_and_all_else() -> None:
    for path in ("/admin/state", "/metrics"):
        assert (await asked(path, ADMIN)).status_code == 401  # the gate's answer: a key is still needed
    assert (await asked("/ready", ADMIN)).status_code == 200
    assert (await asked("/ready", PUBLIC)).status_code == 200


def test_both_ports_at_once_can_not_be_one() -> None:
    settings = load({"model": "a", "small_model": "b", "port": 9000, "admin_port": 9001}, environ={})
    assert settings.ports == (9000, 9001)
    with pytest.raises(Exception, match="admin_port must be another port than port"):
        load({"model": "a", "small_model": "b", "port": 9000, "admin_port": 9000}, environ={})
