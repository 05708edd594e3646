"""A running server against its own OpenAPI description, administration included: whatever is sent, no 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error

from kit import Kit
from server_process import ADMIN_KEY, Server, serving

pytestmark = pytest.mark.engine
EXAMPLES = 8  # of each operation
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def server(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    modules = [argument for module in kit.modules.values() for argument in ("--module", str(module.path))]
    arguments = [*modules, "--route", "forgetful=plain", "--route", "other=both"]
    with serving(folder, kit, [*arguments, "--audit-log", str(folder / "audit.jsonl")]) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_sent_is_no_fault_of_the_server(case: Any, server: Server) -> None:
    if isinstance(case.body, dict) and "model" in case.body and isinstance(case.body["model"], str):
        case.body["model"] = "forgetful"  # a name that answers, or nothing beyond the name is looked at
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    response = case.call(headers=headers, timeout=TIMEOUT_S)
    case.validate_response(response, checks=[not_a_server_error])


def test_the_server_goes_on(server: Server) -> None:
    with server.http(ADMIN_KEY) as http:
        assert http.get("/ready").status_code == 200
        assert http.get("/admin/state").json()["error"] is None
