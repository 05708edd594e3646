"""The chart, rendered by Helm itself and held against Kubernetes' schemas and the server's own settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from lethe_server import sources
from lethe_server.settings import Settings
from pages import blocks, section

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "lethe"
FOREIGN = ("ServiceMonitor", "PrometheusRule", "ScaledObject")  # kinds that Kubernetes itself has no schema for
LEAST = {"model": "org/large", "smallModel": "/models/small", "keys": {"secret": "lethe-keys"}}
FULL = {
    **LEAST,
    "replicas": 3,
    "modules": ["/modules/forget-marta", "/modules/forget-novel"],
    "routes": {"my-model": "forget-marta"},
    "settings": {"max_body_bytes": 16777216, "engine": {"max_model_len": 4096, "dtype": "bfloat16"}},
    "trustedKeys": {"configMap": "lethe-trusted", "files": ["ours.pem", "theirs.pem"]},
    "models": {"claim": "models"},
    "moduleFiles": {"claim": "modules"},
    "data": {"storageClass": "fast"},
    "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}],
    "envFrom": [{"secretRef": {"name": "bucket"}}],
    "nodeSelector": {"gpu": "h100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "runtimeClassName": "nvidia",
    "serviceAccount": {"annotations": {"example.com/role": "bucket"}},
    "networkPolicy": {"clients": [{"namespaceSelector": {"matchLabels": {"gateway": "true"}}}]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "key": {"secret": "lethe-monitor"}},
    "prometheusRule": {"enabled": True},
}
BUCKET = {**LEAST, "state": {"url": "s3://bucket/lethe"}, "autoscaling": {"enabled": True}}
VARIANTS = {"least": LEAST, "full": FULL, "bucket": BUCKET}


@pytest.fixture(scope="module")
def chart() -> Iterator[helm.Chart]:
    with helm.Chart.load(str(CHART)) as loaded:
        yield loaded


def render(chart: helm.Chart, values: dict[str, Any], name: str = "demo") -> dict[tuple[str, str], Any]:
    """By kind and name."""
    texts = chart.render(values, name=name, namespace="prod")
    manifests = [text for path, text in texts.items() if path.endswith(".yaml")]
    documents = [document for text in manifests for document in yaml.safe_load_all(text) if document]
    found = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert len(found) == len(documents)
    return found


def pod(documents: dict[tuple[str, str], Any], name: str = "demo-lethe") -> tuple[Any, Any]:
    """The pod's specification and its only container's."""
    spec = documents["StatefulSet", name]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


@pytest.mark.parametrize("kubernetes", ["1.25", "1.37"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_manifest_is_what_kubernetes_takes(chart: helm.Chart, variant: str, kubernetes: str) -> None:
    documents = render(chart, VARIANTS[variant])
    own = [document for (kind, _), document in documents.items() if kind not in FOREIGN]
    assert {"StatefulSet", "Service", "ConfigMap", "NetworkPolicy"} <= {document["kind"] for document in own}
    for document in own:
        kubernetes_validate.validate(document, kubernetes, strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_has_nothing_to_say(variant: str) -> None:
    found = helm.lint(str(CHART), VARIANTS[variant], strict=True)
    assert found["errors"] == []
    assert [each["error"] for each in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_server_takes_its_settings_and_finds_every_path(chart: helm.Chart, variant: str, tmp_path: Path) -> None:
    documents = render(chart, VARIANTS[variant])
    config = tmp_path / "lethe.yaml"
    config.write_text(documents["ConfigMap", "demo-lethe"]["data"]["lethe.yaml"])
    settings = sources.load({"host": "0.0.0.0"}, config, {})
    assert settings.keys_file == Path("/etc/lethe/keys/keys.yaml")
    assert settings.admin_port == 8001
    _, container = pod(documents)
    mounts = {Path(each["mountPath"]): each.get("readOnly", False) for each in container["volumeMounts"]}
    for path, written in paths(settings):
        (above,) = [mount for mount in mounts if path.is_relative_to(mount)]
        assert not (written and mounts[above]), path


def paths(settings: Settings) -> list[tuple[Path, bool]]:
    """What the server reads, and whether it writes there too."""
    state = [] if "://" in str(settings.state_dir) else [(Path(str(settings.state_dir)), True)]
    written = [(settings.cache_dir, True), (settings.audit_log or Path("/data"), True), *state]
    models = [Path(name) for name in (settings.model, settings.small_model) if name.startswith("/")]
    read = [settings.keys_file or Path("/etc/lethe/keys"), *settings.trusted_keys, *settings.modules]
    return [*written, *((path, False) for path in [*read, *(models if settings.modules else [])])]


def test_settings_reach_the_server_as_they_are(chart: helm.Chart, tmp_path: Path) -> None:
    config = tmp_path / "lethe.yaml"
    config.write_text(render(chart, FULL)["ConfigMap", "demo-lethe"]["data"]["lethe.yaml"])
    settings = sources.load({}, config, {})
    assert (settings.model, settings.small_model) == ("org/large", "/models/small")
    assert settings.routes == {"my-model": "forget-marta"}
    assert settings.max_body_bytes == 16777216
    assert settings.engine == {"max_model_len": 4096, "dtype": "bfloat16"}
    assert [path.name for path in settings.trusted_keys] == ["ours.pem", "theirs.pem"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "model"),
        ({**LEAST, "keys": {}}, "keys/secret"),
        ({**LEAST, "replica": 2}, "replica"),
        ({**LEAST, "replicas": 2, "state": {"accessMode": "ReadWriteOnce"}}, "state.accessMode"),
        ({**LEAST, "autoscaling": {"enabled": True}, "state": {"accessMode": "ReadWriteOnce"}}, "state.accessMode"),
        ({**LEAST, "state": {"url": "bucket"}}, "state/url"),
        ({**LEAST, "settings": {"port": 80}}, "settings.port"),
        ({**LEAST, "networkPolicy": {"admins": []}}, "networkPolicy/admins"),
        ({**LEAST, "serviceMonitor": {"enabled": True}}, "serviceMonitor.key.secret"),
    ],
)
def test_values_that_can_not_be(chart: helm.Chart, values: dict[str, Any], said: str) -> None:
    with pytest.raises(helm.HelmError, match=said):
        render(chart, values)


def test_the_pod_may_do_next_to_nothing(chart: helm.Chart) -> None:
    spec, container = pod(render(chart, FULL))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"/tmp", "/dev/shm", "/home/lethe", "/data"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
    assert not [each for each in container["env"] if "KEY" in each["name"]]  # keys come from a Secret's file


def test_the_pod_has_time_to_drain(chart: helm.Chart) -> None:
    for drain, sleep in ((60, 10), (600, 0)):
        spec, container = pod(render(chart, {**LEAST, "drainTimeoutSeconds": drain, "preStopSeconds": sleep}))
        assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", str(sleep)]
        assert spec["terminationGracePeriodSeconds"] > sleep + drain


def test_probes_ask_the_port_for_clients(chart: helm.Chart) -> None:
    _, container = pod(render(chart, {**LEAST, "startupSeconds": 45}))
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert asked["readinessProbe"] == {"path": "/ready", "port": "http"}
    assert asked["startupProbe"] == asked["livenessProbe"] == {"path": "/health", "port": "http"}
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] >= 45


def test_administration_stays_inside(chart: helm.Chart) -> None:
    documents = render(chart, FULL)
    assert [port["name"] for port in documents["Service", "demo-lethe"]["spec"]["ports"]] == ["http"]
    inside = documents["Service", "demo-lethe-admin"]["spec"]
    assert [port["name"] for port in inside["ports"]] == ["admin"]
    assert (inside["clusterIP"], inside["publishNotReadyAddresses"]) == ("None", True)
    clients, admins = documents["NetworkPolicy", "demo-lethe"]["spec"]["ingress"]
    assert (clients["ports"], admins["ports"]) == ([{"port": "http"}], [{"port": "admin"}])
    assert admins["from"] == [{"podSelector": {}}]
    assert clients["from"] == FULL["networkPolicy"]["clients"]  # type: ignore[index]


def test_replicas_follow_the_queue(chart: helm.Chart) -> None:
    documents = render(chart, BUCKET)
    assert "replicas" not in documents["StatefulSet", "demo-lethe"]["spec"]
    assert ("PersistentVolumeClaim", "demo-lethe-state") not in documents
    scaled = documents["ScaledObject", "demo-lethe"]["spec"]
    assert scaled["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "demo-lethe"}
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["query"] == (
        'sum(vllm:num_requests_waiting{namespace="prod", service="demo-lethe-admin"})'
    )
    assert all(isinstance(value, str) for value in trigger["metadata"].values())


def test_prometheus_finds_the_port_and_has_a_key(chart: helm.Chart) -> None:
    documents = render(chart, FULL)
    monitor = documents["ServiceMonitor", "demo-lethe"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = {name: each for (kind, name), each in documents.items() if kind == "Service"}
    assert [name for name, each in services.items() if wanted <= each["metadata"]["labels"].items()] == [
        "demo-lethe-admin"
    ]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] == "admin"
    assert endpoint["authorization"] == {"credentials": {"name": "lethe-monitor", "key": "key"}}
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_the_rules_are_those_of_prometheus_own_file(chart: helm.Chart) -> None:
    rules = render(chart, FULL)["PrometheusRule", "demo-lethe"]["spec"]
    assert rules == yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    assert rules["groups"]


def test_a_name_that_is_too_long_for_kubernetes(chart: helm.Chart) -> None:
    for name in ("l" * 53, "lethe-" + "x" * 47):
        names = [name for _, name in render(chart, LEAST, name)]
        assert max(map(len, names)) <= 52  # a StatefulSet's pods carry a label of its name and a hash, 63 at most


def test_the_values_of_the_page_are_values(chart: helm.Chart) -> None:
    (shown,) = blocks(section("deploy/README.md", "Kubernetes"), "yaml")
    spec, container = pod(render(chart, yaml.safe_load(shown.code), "lethe"), "lethe")
    assert container["image"] == "registry.example.com/lethe:cuda"
    assert {"models", "modules"} <= {volume["name"] for volume in spec["volumes"]}
