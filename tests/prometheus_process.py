"""A real Prometheus over a running server, with the rules and the scrape job of ``deploy/``."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from server_process import free_port

DEPLOY = Path(__file__).parents[1] / "deploy"


@dataclass(frozen=True)
class Prometheus:
    url: str

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values, without those that are no number."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10).json()
        assert answer["status"] == "success", (expression, answer)
        found = [(each["metric"], float(each["value"][1])) for each in answer["data"]["result"]]
        return [(labels, value) for labels, value in found if math.isfinite(value)]

    def rules(self) -> list[dict[str, Any]]:
        groups = httpx.get(f"{self.url}/api/v1/rules", timeout=10).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


def configuration(target: str, key_file: Path) -> dict[str, Any]:
    """``deploy/prometheus/prometheus.yml`` for another target, once a second."""
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    job["authorization"]["credentials_file"] = str(key_file)
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus/alerts.yml")]
    return config


@contextmanager
def watching(folder: Path, target: str, monitor_key: str) -> Iterator[Prometheus]:
    """target: host and port of a server that knows ``monitor_key``."""
    key_file = folder / "monitor_key"
    key_file.write_text(monitor_key)
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(configuration(target, key_file)))
    address = f"127.0.0.1:{free_port()}"
    files = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("wb") as out:
        process = subprocess.Popen(
            ["prometheus", *files, f"--web.listen-address={address}"], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_ready(f"http://{address}")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/-/ready", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError("Prometheus did not start")
