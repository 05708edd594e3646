"""What Gateway API Inference Extension, llm-d and the vLLM production stack ask of a server, on two ports."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kit import Kit
from server_process import ADMIN_KEY, CLIENT_KEY, Server, free_port, serving

pytestmark = pytest.mark.engine
# Queue and KV cache, by which endpoint pickers and autoscalers choose; vLLM's names of this version.
GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")


@pytest.fixture(scope="module")
def admin_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(kit: Kit, tmp_path_factory: pytest.TempPathFactory, admin_port: int) -> Iterator[Server]:
    arguments = [part for name in ("plain", "both") for part in ("--module", str(kit.modules[name].path))]
    routes = ["--route", "forgetful=plain", "--route", "org/other-model=both", "--admin-port", str(admin_port)]
    with serving(tmp_path_factory.mktemp("gateways"), kit, [*arguments, *routes]) as running:
        yield running


def get(port: int, path: str, key: str | None = ADMIN_KEY) -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=60)


def public_port(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """By name, the labels and values of each series."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_administration_is_on_its_own_port_alone(server: Server, admin_port: int) -> None:
    for path in ("/admin/state", "/admin/modules", "/metrics", "/console"):
        refused = get(public_port(server), path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, 404)
        spoofed = {"host": f"127.0.0.1:{admin_port}", "x-forwarded-port": str(admin_port)}
        with server.http(ADMIN_KEY) as http:
            assert http.get(path, headers=spoofed).status_code == 404
    assert get(admin_port, "/admin/state").json()["generation"] == 1
    assert get(admin_port, "/admin/state", CLIENT_KEY).status_code == 403
    for port in (public_port(server), admin_port):
        assert [get(port, path, None).status_code for path in ("/health", "/ready")] == [200, 200]


def test_queue_and_cache_are_gauges(server: Server, admin_port: int) -> None:
    assert server.openai().completions.create(model="forgetful", prompt="One, two", max_tokens=3).choices
    found = samples(get(admin_port, "/metrics").text)
    for name in GAUGES:
        ((labels, value),) = found[name]
        assert labels["model_name"] == "large"  # vLLM's own name, which is no public one
        assert value >= 0
    ((cache, _),) = found["vllm:cache_config_info"]
    assert int(cache["block_size"]) == 32
    assert int(cache["num_gpu_blocks"]) > 0


def test_adapters_are_told_as_vllm_tells_them(kit: Kit, server: Server, admin_port: int) -> None:
    long = {"max_tokens": 200, "extra_body": {"ignore_eos": True}}
    with server.openai().completions.create(model="forgetful", prompt="One, two", stream=True, **long) as stream:
        next(iter(stream))
        series = samples(get(admin_port, "/metrics").text)["vllm:lora_requests_info"]
    assert {frozenset(labels) for labels, _ in series} == {
        frozenset({"max_lora", "waiting_lora_adapters", "running_lora_adapters"})
    }
    assert {labels["max_lora"] for labels, _ in series} == {"4"}  # the default of max_modules_per_batch
    assert kit.modules["plain"].ref in {labels["running_lora_adapters"] for labels, _ in series}


def test_models_are_listed_as_adapters_are(server: Server) -> None:
    listed = get(public_port(server), "/v1/models", CLIENT_KEY).json()
    assert listed["object"] == "list"
    cards = {card["id"]: card for card in listed["data"]}
    assert set(cards) == {"forgetful", "org/other-model"}
    for card in cards.values():
        assert card["object"] == "model"
        assert re.fullmatch(r"\d+", str(card["created"]))
    one = get(public_port(server), "/v1/models/org/other-model", CLIENT_KEY).json()
    assert one["id"] == "org/other-model"
