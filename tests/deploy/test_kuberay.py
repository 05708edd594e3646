"""The manifest for several nodes: what Kubernetes takes, what the server takes, and whether both agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from lethe_server import options, sources

MANIFEST = Path(__file__).parents[2] / "deploy" / "kuberay" / "lethe.yaml"


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text())}


def groups(documents: dict[str, Any]) -> tuple[Any, Any]:
    """The head's group and the only one of workers."""
    spec = documents["RayCluster"]["spec"]
    (workers,) = spec["workerGroupSpecs"]
    return spec["headGroupSpec"], workers


def container(group: Any) -> Any:
    (found,) = group["template"]["spec"]["containers"]
    return found


def test_kubernetes_takes_what_is_its_own(documents: dict[str, Any]) -> None:
    for kind in ("ConfigMap", "Service", "NetworkPolicy"):
        kubernetes_validate.validate(documents[kind], "1.37", strict=True)
    for number, group in enumerate(groups(documents)):
        pod = {"apiVersion": "v1", "kind": "Pod", **group["template"]}
        pod["metadata"] = {**pod["metadata"], "name": f"pod-{number}"}
        kubernetes_validate.validate(pod, "1.37", strict=True)


def test_kuberay_takes_the_rest(documents: dict[str, Any]) -> None:
    """Its own fields, by its API reference; it has no schema to hold them against here."""
    cluster = documents["RayCluster"]
    assert cluster["apiVersion"] == "ray.io/v1"
    assert cluster["metadata"]["annotations"] == {"ray.io/overwrite-container-cmd": "true"}
    head, workers = groups(documents)
    assert set(cluster["spec"]) == {"headGroupSpec", "workerGroupSpecs"}
    assert set(head) == {"rayStartParams", "template"}
    assert set(workers) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    for group in (head, workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert "$KUBERAY_GEN_RAY_START_CMD" in container(group)["args"][0]


def test_the_server_takes_its_settings(documents: dict[str, Any], tmp_path: Path) -> None:
    config = tmp_path / "lethe.yaml"
    config.write_text(documents["ConfigMap"]["data"]["lethe.yaml"])
    settings = sources.load({"host": "0.0.0.0"}, config, {})
    engine = options.parse(settings.engine).engine
    assert engine["distributed_executor_backend"] == "ray"
    head, workers = groups(documents)
    gpus = [container(group)["resources"]["limits"]["nvidia.com/gpu"] for group in (head, workers)]
    assert engine["tensor_parallel_size"] == gpus[0] + workers["replicas"] * gpus[1]
    ports = {port["name"]: port["containerPort"] for port in container(head)["ports"]}
    assert (ports["http"], ports["admin"]) == settings.ports
    mounts = [Path(each["mountPath"]) for each in container(head)["volumeMounts"]]
    places = (settings.model, settings.small_model, settings.state_dir, settings.keys_file, settings.audit_log)
    for place in places:
        assert any(Path(str(place)).is_relative_to(mount) for mount in mounts), place


def test_every_node_sees_the_models_and_the_adapters(documents: dict[str, Any]) -> None:
    head, workers = groups(documents)
    shared = {"/models", "/state", "/dev/shm"}
    for group in (head, workers):
        assert shared <= {each["mountPath"] for each in container(group)["volumeMounts"]}
        assert "VLLM_HOST_IP" in {each["name"] for each in container(group)["env"]}
    (temporary,) = re.findall(r"\bTMPDIR=(\S+) RAY_TMPDIR", container(head)["args"][0])
    assert Path(temporary).is_relative_to("/state")


def test_only_the_port_for_clients_is_open_to_all(documents: dict[str, Any]) -> None:
    assert [port["port"] for port in documents["Service"]["spec"]["ports"]] == [8000]
    inside, clients, admins = documents["NetworkPolicy"]["spec"]["ingress"]
    assert "ports" not in inside
    assert (clients, admins["ports"]) == ({"ports": [{"port": 8000}]}, [{"port": 8001}])
    assert all("from" in rule for rule in (inside, admins))
