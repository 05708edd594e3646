"""The administration against its own OpenAPI description: whatever is sent, no 5xx and no answer of another shape."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
import schemathesis
import uvicorn
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from fuzzing import Draw, fuzz, operations
from server_process import free_port
from worlds import ADMIN, World, declared, ref, spec

NUM_EXAMPLES = 40
CHECKS = [not_a_server_error, response_schema_conformance]
KNOWN = {"model": ["m", "n", "new"], "ref": ["a", ref("b"), "c@sha256:00000000"]}  # else only strangers are asked for


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server over a fake engine, in a thread of its own."""
    port = free_port()
    world = World()
    config = uvicorn.Config(world.application(), port=port, lifespan="off", log_config=None)
    server = uvicorn.Server(config)

    async def serve() -> None:
        await world.start(declared("abc", m="a", n=spec("a", "b+c", shadow="c")))
        await server.serve()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def test_whatever_is_sent(url: str) -> None:
    found = operations(url)
    assert {"/admin/state", "/admin/modules", "/admin/routes/{model}/rollback"} <= {each.path for each in found}
    statuses = set()

    def send(case: schemathesis.Case, draw: Draw) -> None:
        for name in case.path_parameters or {}:
            if draw([False, True]):
                case.path_parameters[name] = draw(KNOWN[name])
        response = case.call(headers=ADMIN)
        statuses.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    for operation in found:
        fuzz(operation, NUM_EXAMPLES, send)
    assert {200, 400, 404} <= statuses
