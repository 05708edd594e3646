"""The rules and the compose file as they lie in ``deploy/``."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from prometheus_process import DEPLOY

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
RULES = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=DEPLOY / "prometheus", text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_rules_do_what_their_tests_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")


@needs_promtool
def test_the_scrape_configuration_is_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_every_alert_is_tested_both_ways() -> None:
    alerts = {rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts.test.yml").read_text())["tests"]
    checks = [check for test in tests for check in test.get("alert_rule_test", ())]
    assert alerts
    assert {check["alertname"] for check in checks if check.get("exp_alerts")} == alerts
    assert {check["alertname"] for check in checks if not check.get("exp_alerts")} == alerts


def test_compose_mounts_files_that_exist_and_its_variables_are_explained() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    page = (DEPLOY / "README.md").read_text()
    assert COMPOSE["services"].keys() == {"lethe", "prometheus", "grafana"}
    mounts = [mount for service in COMPOSE["services"].values() for mount in service["volumes"]]
    own = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert len(own) > 3
    assert [path for path in own if not (DEPLOY / path).exists()] == []
    variables = set(re.findall(r"\$\{(\w+)", text))
    assert [name for name in sorted(variables) if f"`{name}`" not in page] == []
