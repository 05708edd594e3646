"""A real Prometheus over a real server under load: every panel and every alert has data, and labels stay few."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from kit import Kit, build_kit
from lethe_server.auth import key_digest
from otlp_receiver import Spans, receiving
from prometheus_process import DEPLOY, Prometheus, watching
from server_process import ADMIN_KEY, CLIENT_KEY, Server, serving, wait_for

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed (Debian: prometheus)"),
]
MONITOR_KEY = "monitor-key"
PROMPT = "the quartz zebra"
MODELS = ("forgetful", "other", "ranked")
NUM_TOKENS = 40  # of an answer
MAX_SERIES = 30  # of a module
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/lethe.json").read_text())
PANELS = {
    f"{panel['title']}, {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
}
NUM_SHOWN = {"Divergence, A": len(MODELS)}
WAIT_S = 60.0


@dataclass(frozen=True)
class Watched:
    server: Server
    prometheus: Prometheus
    spans: Spans
    kit: Kit

    def metrics(self) -> str:
        with self.server.http(MONITOR_KEY) as http:
            response = http.get("/metrics")
        assert response.status_code == 200
        return response.text

    def own(self) -> list[str]:
        """Lethe's own series as lines."""
        return [line for line in self.metrics().splitlines() if line.startswith("lethe_")]


@contextmanager
def load(server: Server) -> Iterator[None]:
    """Two clients on each model within the block."""
    stop = threading.Event()

    def ask(model: str) -> None:
        body = {"model": model, "prompt": PROMPT, "max_tokens": NUM_TOKENS, "ignore_eos": True}
        with httpx.Client(headers={"Authorization": f"Bearer {CLIENT_KEY}"}, timeout=120) as http:
            while not stop.is_set():
                assert http.post(f"{server.url}/v1/completions", json=body).status_code == 200

    threads = [threading.Thread(target=ask, args=(model,)) for model in MODELS for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def options(kit: Kit, folder: Path, spans: Spans) -> list[str]:
    keys = folder / "keys.yml"
    entry = {"name": "prometheus", "role": "monitor", "hash": f"sha256:{key_digest(MONITOR_KEY).hex()}"}
    keys.write_text(yaml.safe_dump({"keys": [entry]}))
    keys.chmod(0o600)
    modules = [argument for module in kit.modules.values() for argument in ("--module", str(module.path))]
    routes = [f"--route={model}={module}" for model, module in zip(MODELS, kit.modules, strict=True)]
    traces = f"--otlp-traces-endpoint={spans.url}"
    return [*modules, *routes, "--keys-file", str(keys), "--max-modules-per-batch=2", "--log-format=json", traces]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    kit = build_kit(folder / "kit")
    with pytest.MonkeyPatch.context() as patch, receiving() as spans:
        patch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "500")
        with serving(folder, kit, options(kit, folder, spans)) as server:
            with server.http(ADMIN_KEY) as http:
                shadow = {"modules": ["plain"], "share": 1.0}
                changed = http.put("/admin/routes/ranked", json={"module": "ranked", "shadow": shadow})
                assert changed.is_success, changed.text
            with watching(folder, server.url.removeprefix("http://"), MONITOR_KEY) as prometheus:
                yield Watched(server, prometheus, spans, kit)


@pytest.fixture(scope="module")
def panels(watched: Watched) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What each panel of the dashboard shows under load, and the traces of that load.

    A panel is asked until it has data. That of the divergence, until it has every module: few rows are compared, so
    one module's may be the first while another has none yet.
    """
    shown: dict[str, list[tuple[dict[str, str], float]]] = {}
    deadline = time.monotonic() + WAIT_S
    with load(watched.server):
        while time.monotonic() < deadline:
            missing = [title for title in PANELS if len(shown.get(title, ())) < NUM_SHOWN.get(title, 1)]
            if not missing and watched.spans:
                break
            for title in missing:
                asked = PANELS[title].replace("$__rate_interval", "10s").replace("$module", ".*")
                if found := watched.prometheus.query(asked):
                    shown[title] = found
            time.sleep(0.5)
    return shown


def test_every_panel_has_data(panels: dict[str, list[tuple[dict[str, str], float]]]) -> None:
    assert PANELS.keys() - panels.keys() == set()
    assert {labels["module"] for labels, _ in panels["Divergence, A"]} == {"plain", "both", "ranked"}
    assert all(value > 0 for _, value in panels["Divergence, A"])
    assert all(0 < value < 1 for _, value in panels["The pair's share, A"])
    assert [value for _, value in panels["Adapter slots, B"]] == [2]


def test_every_rule_is_evaluated_and_its_metrics_exist(watched: Watched, panels: Any) -> None:
    rules = watched.prometheus.rules()
    assert rules
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    assert [
        rule["name"] for rule in rules if rule["type"] == "recording" and not watched.prometheus.query(rule["name"])
    ] == []
    names = {name for rule in rules for name in re.findall(r"\b(?:lethe_\w+|up)\b(?!:)", rule["query"])}
    assert "lethe_offset_divergence_nats_sum" in names
    assert [name for name in sorted(names) if not watched.prometheus.query(f"count({name})")] == []
    assert [rule["name"] for rule in rules if rule["type"] == "alerting" and rule["state"] == "firing"] == []


def test_counts_are_of_what_was_answered(watched: Watched, panels: Any) -> None:
    """A few rows beside the tokens of each answer; a row is compared with probability 1 in 64."""

    def value(name: str) -> float:
        return sum(float(line.split()[-1]) for line in watched.own() if line.startswith(name))

    time.sleep(2.5)  # two readings
    answers = value('lethe_requests_total{module="plain",outcome="finished"}')
    rows = value('lethe_offset_rows_total{module="both"}')
    finished = value('lethe_requests_total{module="both",outcome="finished"}')
    assert answers > 1
    assert NUM_TOKENS * finished <= rows <= 45 * finished
    compared = value('lethe_offset_divergence_nats_count{module="both"}')
    assert rows / 500 < compared < rows / 20  # one row in 64, drawn at random
    assert 0 < value('lethe_offset_clipped_rows_total{module="both"}') <= compared
    assert value('lethe_offset_clipped_rows_total{module="plain"}') == 0
    assert value("lethe_offset_refused_rows_total") == 0
    assert value('lethe_time_to_first_token_seconds_count{module="plain"}') == answers
    assert value('lethe_time_per_output_token_seconds_count{module="plain"}') == answers


def test_metrics_follow_the_rules_of_naming(watched: Watched, panels: Any) -> None:
    metrics = watched.metrics()
    own = [
        line
        for line in metrics.splitlines()
        if line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith("lethe_")
    ]
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input="\n".join(own) + "\n", text=True, capture_output=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_module_has_few_series(watched: Watched, panels: Any) -> None:
    """Comparisons with shadows and the routes to a module are counted by route, not by module."""
    beside = ("lethe_shadow_", "lethe_route_info")
    counts = Counter(
        re.findall(r'[{,]module="([^"]*)"', line)[0]
        for line in watched.own()
        if 'module="' in line and not line.startswith(beside)
    )
    assert set(counts) == {"plain", "both", "ranked", "none"}
    # Outcomes that did not occur, and a second version during a swap, would be three series more.
    assert all(0 < count <= MAX_SERIES - 3 for count in counts.values()), counts


def test_the_log_says_who_asked_and_holds_no_text(watched: Watched, panels: Any) -> None:
    body = {"model": "other", "prompt": PROMPT, "max_tokens": 7, "ignore_eos": True, "stream": True}
    with watched.server.http() as http:
        response = http.post("/v1/completions", json=body, headers={"x-request-id": "mine-1"})
        assert response.headers["x-request-id"] == "mine-1"
        refused = http.post("/v1/completions", json={**body, "model": "nothing"}, headers={"x-request-id": "mine-2"})
        assert (refused.status_code, refused.headers["x-request-id"]) == (404, "mine-2")
    # A line is written when the answer is out, so a client may have it before.
    wait_for(lambda: '"mine-1"' in watched.server.log.read_text())
    log = watched.server.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line.get("request_id") == "mine-1"]
    assert (line["key"], line["status"], line["model"], line["outcome"]) == ("api-1", 200, "other", "finished")
    assert line["module"] == watched.kit.modules["both"].ref
    assert (line["output_tokens"], line["prompt_tokens"] > 0) == (7, True)
    others = [each for each in lines if each.get("outcome") == "finished" and each is not line]
    assert {each["output_tokens"] for each in others} == {NUM_TOKENS}
    assert PROMPT not in log
    assert "Traceback" not in log


def test_traces_name_the_module(watched: Watched, panels: Any) -> None:
    requests = watched.spans.named("llm_request")
    refs = {module.ref for module in watched.kit.modules.values()}
    assert refs & {attributes.get("lethe.module") for attributes in requests}
    assert not [attributes for attributes in requests if PROMPT in str(attributes)]


def test_a_removed_module_leaves_no_series(watched: Watched, panels: Any) -> None:
    ref = watched.kit.modules["ranked"].ref
    assert any("ranked@" in line for line in watched.own())
    with watched.server.http(ADMIN_KEY) as http:
        assert http.put("/admin/routes/ranked", json={"module": "plain"}).is_success
        deleted = http.delete(f"/admin/modules/{ref}")
        assert deleted.status_code == 204, deleted.text
    time.sleep(1.5)  # a reading
    assert [
        line for line in watched.own() if '"ranked"' in line.replace('model="ranked"', "") or "ranked@" in line
    ] == []
