"""A whole server against its own OpenAPI description: whatever is sent, no 5xx, and errors in OpenAI's shape."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from schemathesis.checks import not_a_server_error

from fuzzing import Draw, fuzz, operations
from server_process import ADMIN_KEY, Server

pytestmark = pytest.mark.engine
NUM_EXAMPLES = 40
MODELS = ["forgetful", "org/other-model", "ranked", "unknown"]
SOUND: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "One, two,", "max_tokens": 4},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "One, two,"}], "max_tokens": 4},
    "/v1/responses": {"input": "One, two,", "max_output_tokens": 16},
    "/tokenize": {"prompt": "One, two,"},
    "/detokenize": {"tokens": [5, 6]},
}
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}


def nearly_sound(path: str, body: Any, draw: Draw) -> Any:
    """A sound body with two of the drawn fields; one that is drawn as a whole hardly ever reaches the engine."""
    if path not in SOUND or not isinstance(body, dict) or draw([False, False, True]):
        return body
    fields = (
        {name: body[name] for name in (draw(sorted(body)), draw(sorted(body))) if draw([True, False])} if body else {}
    )
    return {**fields, **SOUND[path], "model": draw(MODELS)}


def test_whatever_is_sent(server: Server) -> None:
    found = operations(server.url)
    assert {"/v1/completions", "/v1/chat/completions", "/v1/models", "/admin/state", "/ready"} <= {
        each.path for each in found
    }
    statuses: dict[str, set[int]] = {}

    def send(case: schemathesis.Case, draw: Draw) -> None:
        case.body = nearly_sound(case.operation.path, case.body, draw)
        response = case.call(headers=HEADERS, timeout=60)
        statuses.setdefault(case.operation.path, set()).add(response.status_code)
        case.validate_response(response, checks=[not_a_server_error])
        if response.status_code >= 400 and case.operation.path.startswith(("/v1", "/admin")):
            assert response.json()["error"]["message"]

    for operation in found:
        fuzz(operation, NUM_EXAMPLES, send)
    assert all({200, 400} <= statuses[path] for path in SOUND), statuses
    with server.http() as http:
        assert http.get("/health").status_code == 200
    assert "Traceback" not in server.log.read_text()
