"""The chart is rendered by Helm's own engine, and its manifests fit the schemas of Kubernetes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.core.config_text import read
from tests.deploy.dockerfile import Dockerfile
from tests.support.programs import ROOT, skip

CHART = ROOT / "deploy" / "chart"
ENGINE = Path(sys.prefix) / "chart" / "bin" / "python"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
REDIS = {"redis": {"url": "redis://redis:6379/0"}}
DIGEST = "sha256:" + "5c" * 32
EVERYTHING = {
    "image": {"digest": DIGEST},
    "imagePullSecrets": [{"name": "registry"}],
    "replicaCount": 3,
    "state": {"redis": {"url": "rediss://proxy@redis:6379/0", "existingSecret": "redis"}},
    "drainSeconds": 7200,
    "preStopSeconds": 15,
    "existingSecrets": ["console-tls", "tokens"],
    "proxy": {"access_log": "stdout", "max_connections": 64},
    "admin": {"listen": "127.0.0.1:9000"},
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}, "appProtocol": "kubernetes.io/wss"},
    "gateway": {"enabled": True, "parentRefs": [{"name": "edge"}], "hostnames": ["consoles.example.com"]},
    "ingress": {"enabled": True, "className": "c", "hosts": ["consoles.example.com"]},
    "networkPolicy": {
        "clients": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
        "monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "redis": [{"podSelector": {"matchLabels": {"app": "redis"}}}],
    },
    "serviceMonitor": {"enabled": True},
    "podAnnotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
    "podLabels": {"team": "lab"},
    "priorityClassName": "high",
    "nodeSelector": {"zone": "a"},
    "tolerations": [{"operator": "Exists"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "extraVolumes": [{"name": "hosts", "configMap": {"name": "hosts"}}],
    "extraVolumeMounts": [{"name": "hosts", "mountPath": "/etc/esxiproxy/hosts"}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hosts"}}],
}
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "http route": {"gateway": {"enabled": True, "kind": "HTTPRoute", "parentRefs": [{"name": "edge"}]}},
    "proxy protocol": {
        "service": {"type": "LoadBalancer", "proxyProtocol": True},
        "config": "[listener a]\nlisten = :8443\nproxy_protocol = yes\n",
    },
    "existing configuration": {"existingConfigMap": "mine", "state": REDIS, "replicaCount": 2},
    "little": {
        "networkPolicy": {"enabled": False},
        "serviceAccount": {"create": False},
        "reload": {"enabled": False},
    },
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "replicas without Redis": ({"replicaCount": 2}, "Set state.redis.url to the URL of a Redis"),
    "replicas of an existing configuration": (
        {"replicaCount": 2, "existingConfigMap": "mine"},
        "Set state.redis.url to the URL of a Redis",
    ),
    "a state that is none": ({"state": {"redis": {"url": "sqlite:/x"}}}, "does not match pattern"),
    "a password in the URL": ({"state": {"redis": {"url": "redis://u:p@r/0"}}}, "does not match pattern"),
    "a password for nothing": ({"state": {"redis": {"existingSecret": "r"}}}, "set state.redis.url"),
    "a misspelt value": ({"replicas": 2}, "additional properties 'replicas' not allowed"),
    "a misspelt value below": ({"service": {"typ": "NodePort"}}, "additional properties 'typ' not allowed"),
    "a digest that is none": ({"image": {"digest": "sha256:1"}}, "does not match pattern"),
    "two sections [proxy]": ({"config": "[proxy]\n"}, "config has a section [proxy] or [admin]"),
    "a state of one's own": ({"proxy": {"state": "memory:"}}, "proxy has the key state"),
    "a second line in a key": ({"proxy": {"access_log": "off\n[listener b]"}}, "does not match pattern"),
    "a probe of one's own": ({"admin": {"probe_listen": ":1"}}, "admin has the key probe_listen"),
    "a PROXY header that is not expected": ({"service": {"proxyProtocol": True}}, "proxy_protocol = yes"),
    "a route without a gateway": ({"gateway": {"enabled": True}}, "set gateway.parentRefs"),
}


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """Return the engine's output for every case, and for the chart itself as `lint`."""
    if not ENGINE.exists():
        skip("run `make test`, which installs the engine of Helm", f"{ENGINE} is missing: ")
    values = [*CASES.values(), *(values for values, _error in REFUSED.values())]
    done = subprocess.run(
        [ENGINE, ROOT / "tests/deploy/chart_engine.py", CHART],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(["lint", *CASES, *REFUSED], json.loads(done.stdout), strict=True))


def manifests(results: dict[str, Any], case: str) -> dict[str, Any]:
    """Return the manifests of a case by their kinds and the ends of their names."""
    assert "error" not in results[case], results[case]
    return {
        manifest["kind"] + manifest["metadata"]["name"].removeprefix("rel-esxiproxy"): manifest
        for manifest in results[case]["manifests"]
    }


def pod(results: dict[str, Any], case: str) -> dict[str, Any]:
    found: dict[str, Any] = manifests(results, case)["Deployment"]["spec"]["template"]["spec"]
    return found


def test_helm_finds_nothing_wrong(results: dict[str, Any]) -> None:
    assert results["lint"]["errors"] == []
    assert [found["error"] for found in results["lint"]["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("case", CASES)
def test_manifests_fit_the_schemas_of_kubernetes(case: str, results: dict[str, Any]) -> None:
    assert "error" not in results[case], results[case]
    assert set(results[case]["unchecked"]) <= {"TLSRoute", "HTTPRoute", "ServiceMonitor"}, (
        "no kinds of Kubernetes"
    )


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_values_are_refused(case: str, results: dict[str, Any]) -> None:
    assert REFUSED[case][1] in results[case].get("error", "")


def test_optional_parts_are_off_by_default(results: dict[str, Any]) -> None:
    assert manifests(results, "defaults").keys() == {
        *("ConfigMap", "Deployment", "NetworkPolicy", "Service", "ServiceAccount"),
    }
    assert manifests(results, "little").keys() == {"ConfigMap", "Deployment", "Service"}
    assert manifests(results, "existing configuration").keys() == {
        *("Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"),
    }
    assert manifests(results, "everything").keys() == {
        *("ConfigMap", "ConfigMaphosts", "Deployment", "Ingress", "NetworkPolicy", "PodDisruptionBudget"),
        *("Service", "Service-metrics", "ServiceAccount", "ServiceMonitor", "TLSRoute"),
    }


def test_the_default_configuration_is_valid(
    results: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    text = manifests(results, "defaults")["ConfigMap"]["data"]["proxy.ini"]
    socket = "/run/esxiproxy/admin.sock"
    assert text.count(socket) == 1, "a folder that the image has and this machine may not have"
    config = read(text.replace(socket, "admin.sock"))
    assert config.limits.drain_timeout == VALUES["drainSeconds"]
    assert config.admin is not None and config.admin.probe_listen is not None
    assert config.admin.probe_listen.text == ":8080"
    assert [listener.address for listener in config.listeners] == [":8443"]


def test_redis_is_written_into_the_configuration(
    results: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    text = manifests(results, "everything")["ConfigMap"]["data"]["proxy.ini"]
    head = text.partition("\n\n")[0].splitlines()
    assert head == [
        "[proxy]",
        "drain_timeout = 7200s",
        "state = rediss://proxy@redis:6379/0",
        "state_password_file = ../redis/password",
        "access_log = stdout",
        "max_connections = 64",
    ]
    mounts = {mount["name"]: mount for mount in pod(results, "everything")["containers"][0]["volumeMounts"]}
    assert mounts["redis"]["mountPath"] == "/etc/esxiproxy/redis"


def test_a_pod_is_given_the_time_that_its_drain_takes(results: dict[str, Any]) -> None:
    assert pod(results, "defaults")["terminationGracePeriodSeconds"] == 10 + 300 + 30
    found = pod(results, "everything")
    assert found["terminationGracePeriodSeconds"] == 15 + 7200 + 30
    assert found["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 15}}}


def test_no_probe_ends_a_console(results: dict[str, Any]) -> None:
    proxy = pod(results, "defaults")["containers"][0]
    paths = {name: proxy[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    assert {port["name"]: port["containerPort"] for port in proxy["ports"]} == {
        "consoles": 8443,
        "probe": 8080,
    }


def test_a_change_of_the_configuration_is_a_reload_and_no_rollout(results: dict[str, Any]) -> None:
    for case in ("defaults", "everything"):
        template = manifests(results, case)["Deployment"]["spec"]["template"]
        assert not any("checksum" in name for name in template["metadata"].get("annotations", {}))
        # The kubelet never updates a subPath.
        assert "subPath" not in json.dumps(template)
    reload = pod(results, "everything")["containers"][1]
    folders = ["config", "secrets/console-tls", "secrets/tokens"]
    assert reload["command"] == [
        *("esxiproxy", "watch", "--socket=/run/esxiproxy/admin.sock"),
        *(f"/etc/esxiproxy/{folder}" for folder in folders),
    ]
    mounts = {mount["mountPath"] for mount in reload["volumeMounts"]}
    assert {"/run/esxiproxy", *(f"/etc/esxiproxy/{folder}" for folder in folders)} <= mounts
    assert len(pod(results, "little")["containers"]) == 1


def test_pods_have_no_rights(results: dict[str, Any]) -> None:
    image = Dockerfile.read(ROOT / "deploy/image/Dockerfile")
    user, group = map(int, image.one("USER").split(":"))
    for case in CASES:
        found = pod(results, case)
        assert found["automountServiceAccountToken"] is False
        context = found["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"], context["fsGroup"]) == (True, user, group)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in found["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_the_image_is_named_by_its_digest_or_its_tag(results: dict[str, Any]) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    setup = (ROOT / "setup.cfg").read_text()
    assert re.search(r"^version = (.*)$", setup, re.M)[1] == version  # type: ignore[index]
    images = {
        container["image"]
        for case in ("defaults", "everything")
        for container in pod(results, case)["containers"]
    }
    assert images == {f"esxiproxy:{version}", f"esxiproxy@{DIGEST}"}


def test_the_address_of_the_client_reaches_the_proxy(results: dict[str, Any]) -> None:
    policies = {
        case: manifests(results, case)["Service"]["spec"].get("externalTrafficPolicy")
        for case in ("defaults", "everything", "proxy protocol")
    }
    assert policies == {"defaults": None, "everything": "Local", "proxy protocol": "Cluster"}


def test_a_route_has_no_timeout_for_consoles(results: dict[str, Any]) -> None:
    route = manifests(results, "http route")["HTTPRoute"]
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["spec"]["rules"][0]["timeouts"] == {"request": "0s", "backendRequest": "0s"}


def test_the_network_policy_lets_the_proxy_reach_what_it_needs(results: dict[str, Any]) -> None:
    def ports(case: str) -> list[list[Any]]:
        rules = manifests(results, case)["NetworkPolicy"]["spec"]["egress"]
        return [[port["port"] for port in rule["ports"]] for rule in rules]

    assert ports("defaults") == [[53, 53], [443]]
    assert ports("everything") == [[53, 53], [443], [6379, 26379]]


def test_the_schema_names_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def check(part: dict[str, Any], values: dict[str, Any], place: str) -> None:
        assert part["additionalProperties"] is False, place
        names = set(part["properties"]) - {"global"}
        assert names == set(values), place
        for name in names:
            if "properties" in part["properties"][name]:
                check(part["properties"][name], values[name], f"{place}.{name}")

    check(schema, VALUES, "values")
