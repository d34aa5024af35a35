"""The manifests are valid for Kubernetes, and say what the roles need."""

import functools
import re
import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from market_ingestor.bus.rights import ROLE_RIGHTS
from market_ingestor.config import load
from market_ingestor.runtime.parts import PORTS
from tests.support.tools import needs, run

DEPLOY = Path(__file__).parents[3] / "deploy"
FOLDER = DEPLOY / "k8s"
BASE = FOLDER / "base"
ROLES = tuple(ROLE_RIGHTS)
SHARDED = ("ingest", "klines")
NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
VERSIONS = ("1.27", "1.37")


@functools.cache
def manifests() -> list[dict[str, Any]]:
    """Return what kustomize makes of the base, but for the namespace and the hash of a name."""
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    found: list[dict[str, Any]] = []
    for name in kustomization["resources"]:
        found += yaml.safe_load_all((BASE / name).read_text())
    return found


def one(kind: str, name: str) -> dict[str, Any]:
    (found,) = [
        each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return found


def workload(role: str) -> dict[str, Any]:
    return one("StatefulSet" if role in SHARDED else "Deployment", role)


def pod(role: str) -> dict[str, Any]:
    spec: dict[str, Any] = (one("Job", role) if role == "setup" else workload(role))["spec"]
    return dict(spec["template"]["spec"])


def container(role: str) -> dict[str, Any]:
    (only,) = pod(role)["containers"]
    return dict(only)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_schema_of_kubernetes(version: str) -> None:
    for each in manifests():
        kubernetes_validate.validate(each, version, strict=True)


@needs("kustomize")
def test_kustomize_builds_the_example() -> None:
    built = list(yaml.safe_load_all(run("kustomize", "build", str(FOLDER / "overlay.example"))))
    assert {"ServiceMonitor", "PrometheusRule", "ConfigMap"} <= {each["kind"] for each in built}


@pytest.mark.parametrize("role", ["setup", *ROLES])
def test_pods_are_confined(role: str) -> None:
    assert pod(role)["securityContext"]["runAsNonRoot"] is True
    assert pod(role)["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod(role)["automountServiceAccountToken"] is False
    confined = container(role)["securityContext"]
    assert confined["readOnlyRootFilesystem"] is True
    assert confined["allowPrivilegeEscalation"] is False
    assert confined["capabilities"] == {"drop": ["ALL"]}
    assert container(role)["resources"]["limits"]["memory"]


@pytest.mark.parametrize("role", ROLES)
def test_probes_ask_the_roles_own_port(role: str) -> None:
    ports = {each["name"]: each["containerPort"] for each in container(role)["ports"]}
    assert ports["metrics"] == PORTS[role]
    assert container(role)["livenessProbe"]["httpGet"] == {
        "path": "/health/live",
        "port": "metrics",
    }
    ready = container(role)["readinessProbe"]["httpGet"]
    assert ready == {"path": "/health/ready", "port": "metrics"}
    served = {each["name"]: each["port"] for each in one("Service", role)["spec"]["ports"]}
    assert served == ports


@pytest.mark.parametrize("role", SHARDED)
def test_shards_are_as_many_as_pods(role: str) -> None:
    spec = workload(role)["spec"]
    assert container(role)["args"] == ["run", role, "--shard", f"auto/{spec['replicas']}"]
    example = (FOLDER / "overlay.example" / "kustomization.yaml").read_text()
    (replicas,) = re.findall(r"/spec/replicas, value: (\d+)", example)
    assert f"auto/{replicas}]" in example


def test_only_what_may_have_any_number_of_processes_scales_by_itself() -> None:
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]
        for each in manifests()
        if each["kind"] == "HorizontalPodAutoscaler"
    }
    assert scaled == {"save", "gateway", "api"}
    for role in scaled:
        assert "replicas" not in workload(role)["spec"]  # it would undo the autoscaler's work
        assert container(role)["resources"]["requests"]["cpu"]  # what utilisation is measured by


@pytest.mark.parametrize("role", ROLES)
def test_a_drain_of_nodes_takes_one_pod_of_a_role_at_a_time(role: str) -> None:
    budget = one("PodDisruptionBudget", role)["spec"]
    assert budget["maxUnavailable"] == 1
    labels = workload(role)["spec"]["template"]["metadata"]["labels"]
    assert (
        budget["selector"]["matchLabels"]
        == labels
        == workload(role)["spec"]["selector"]["matchLabels"]
    )


@pytest.mark.parametrize("role", ["setup", *ROLES])
def test_a_pod_has_its_own_secrets_and_settings_it_accepts(role: str, tmp_path: Path) -> None:
    (secrets,) = [each for each in pod(role)["volumes"] if each["name"] == "secrets"]
    items = {
        item["path"]: (source["secret"]["name"], item["key"])
        for source in secrets["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    assert items["nats-servers"] == ("market-ingestor-nats", role)
    for path, (_, key) in items.items():
        text = {
            "database-dsn": "postgresql://market:x@postgres/market",
            "nats-servers": f"tls://{role}:x@nats:4222",
        }.get(path, key)
        (tmp_path / path).write_text(text)
    mounted = "/run/secrets/market-ingestor"
    env = {
        each["name"]: each["value"].replace(mounted, str(tmp_path))
        for each in container(role)["env"]
    }
    settings = load(BASE / "config.toml", env=env, env_file=tmp_path / "none").settings
    assert settings.nats.tls_ca == f"{mounted}/nats-ca.pem"
    assert {"ca.pem", "nats-ca.pem"} >= {items["nats-ca.pem"][1]}
    for listener in ("gateway", "api"):
        is_open = getattr(settings, listener).host == "0.0.0.0"  # noqa: S104 - in a pod of its own
        assert is_open is (role == listener)
    grace = pod(role).get("terminationGracePeriodSeconds", 30)
    assert grace > settings.run.shutdown_grace_s + 5


def test_every_pod_is_under_a_policy_and_only_ingest_may_leave_the_cluster() -> None:
    policies = [each for each in manifests() if each["kind"] == "NetworkPolicy"]
    deny = one("NetworkPolicy", "deny-all")["spec"]
    assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in deny
    assert "egress" not in deny
    assert deny["podSelector"]["matchLabels"] == {NAME: "market-ingestor"}
    leaving = [
        policy["spec"]["podSelector"]["matchLabels"]
        for policy in policies
        for rule in policy["spec"].get("egress", ())
        if any("ipBlock" in target for target in rule["to"])
    ]
    assert leaving == [{COMPONENT: "ingest"}]


def test_everything_is_rolled_out_in_some_step() -> None:
    script = (FOLDER / "rollout.sh").read_text()
    (order,) = re.findall(r"^for role in (.*); do$", script, re.MULTILINE)
    steps = order.split()
    assert steps == ["api", "gateway", "save", "klines", "ingest"]  # readers before writers
    labelled = {each["metadata"]["labels"][COMPONENT] for each in manifests()}
    assert labelled == {"common", "setup", *steps}
    assert {each["metadata"]["labels"][NAME] for each in manifests()} == {"market-ingestor"}


def test_the_operators_rules_are_those_of_prometheus() -> None:
    rules = yaml.safe_load((FOLDER / "monitoring" / "alerts.yaml").read_text())["spec"]
    assert rules == yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    monitor = yaml.safe_load((FOLDER / "monitoring" / "scrape.yaml").read_text())["spec"]
    for role in ROLES:
        labels = one("Service", role)["metadata"]["labels"]
        assert labels[monitor["jobLabel"]] == "market-ingestor"  # the job the alerts look for
        assert monitor["selector"]["matchLabels"].items() <= labels.items()


def test_the_rollout_asks_kubectl_for_each_step_in_order(tmp_path: Path) -> None:
    said = tmp_path / "said"
    stand_in = tmp_path / "kubectl"
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{said}\n')
    stand_in.chmod(0o755)
    overlay = shutil.copytree(FOLDER / "overlay.example", tmp_path / "mine")
    script = str(FOLDER / "rollout.sh")
    run("env", f"KUBECTL={stand_in}", script, str(overlay))
    applied = re.findall(rf"^apply -k \S+ -l {COMPONENT}=(\w+)$", said.read_text(), re.MULTILINE)
    assert applied == ["common", "setup", "api", "gateway", "save", "klines", "ingest"]
    assert said.read_text().index("wait --for=condition=complete") < said.read_text().index(
        f"{COMPONENT}=api"
    )
