"""What the manifests say is so: of the command line, of the image, and of each other. Kubernetes is not needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deploy.manifests import (
    AUTOSCALING,
    CHART,
    KUBERNETES,
    Object,
    base,
    command,
    container,
    files_of,
    image_says,
    load,
    mounted,
    only,
    pod,
    variables,
    yaml,
)

from remote_gym.cli.options import BY_NAME, VARIABLE_PREFIX
from remote_gym.client.sources import Records, source_of
from remote_gym.server.metrics import GAUGES, LIVE, READY
from remote_gym.server.server import SCRAPE_TIMEOUT_SECONDS

SERVERS = only(base(), "Deployment")
TRAINER = only(load(KUBERNETES / "trainer.yaml"), "Job")
SERVICE = only(base(), "Service")
PORT = 56765


def certificate(secret: str) -> Object:
    """Return the certificate that is kept in a secret."""
    (found,) = (one for one in base() if one["kind"] == "Certificate" and one["spec"]["secretName"] == secret)
    return found


def test_the_base_is_all_that_is_there() -> None:
    files = {path.name for path in KUBERNETES.glob("*.yaml")}
    (kustomization,) = load(KUBERNETES / "kustomization.yaml")
    assert files == {*kustomization["resources"], "kustomization.yaml", "trainer.yaml"}


def test_what_a_server_is_told_are_settings(tmp_path: Path) -> None:
    said = variables(SERVERS)
    program, serve, *arguments = command(SERVERS)
    assert (program, serve) == ("remote-gym", "serve")
    line = [sys.executable, "-m", "remote_gym", "serve", *arguments, "--show-settings"]
    done = subprocess.run(line, cwd=tmp_path, env={**os.environ, **said}, capture_output=True, text=True, timeout=60.0)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(re.search(rf"# {name}$", done.stdout, re.MULTILINE) for name in said)
    assert 'entrypoint = "CartPole-v1"' in done.stdout
    assert said[f"{VARIABLE_PREFIX}NUM_WORKERS"] == container(SERVERS)["resources"]["limits"]["cpu"]


def test_a_drain_ends_before_the_pod_is_killed() -> None:
    said = variables(SERVERS)
    handover, grace = (float(said[f"{VARIABLE_PREFIX}{name}_SECONDS"]) for name in ("HANDOVER", "GRACE"))
    assert handover > 0 and grace > 0
    assert handover + 2 * grace <= pod(SERVERS)["terminationGracePeriodSeconds"]


def test_ports_are_those_of_the_server() -> None:
    ports = {port["name"]: port["containerPort"] for port in container(SERVERS)["ports"]}
    assert str(ports["remote-gym"]) in str(BY_NAME["port"].default) and f"{VARIABLE_PREFIX}PORT" not in variables(
        SERVERS
    )
    metrics = variables(SERVERS)[f"{VARIABLE_PREFIX}METRICS_PORT"]
    assert str(ports["metrics"]) == metrics
    annotations = SERVERS["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == metrics
    (port,) = SERVICE["spec"]["ports"]
    assert port["port"] == ports[port["targetPort"]] == PORT
    policy = only(base(), "NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for rule in policy for port in rule["ports"]] == ["remote-gym", "metrics"]


def test_probes_ask_what_there_is_to_ask() -> None:
    one = container(SERVERS)
    paths = {name: one[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {probe["port"] for probe in paths.values()} == {"metrics"}
    assert {name: probe["path"] for name, probe in paths.items()} == {
        "startup": READY, "readiness": READY, "liveness": LIVE,
    }  # fmt: skip
    for name in paths:
        assert one[f"{name}Probe"]["timeoutSeconds"] > SCRAPE_TIMEOUT_SECONDS, "the server says itself that it is stuck"
    startup = one["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= float(
        str(BY_NAME["build_timeout_seconds"].default)
    )


def test_all_find_the_same_pods() -> None:
    labels = SERVERS["spec"]["template"]["metadata"]["labels"]
    found = [
        SERVERS["spec"]["selector"]["matchLabels"], SERVICE["spec"]["selector"],
        only(base(), "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(base(), "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(one["labelSelector"]["matchLabels"] for one in pod(SERVERS)["topologySpreadConstraints"]),
    ]  # fmt: skip
    assert found == [labels] * 5
    (trainers,) = (
        peer["podSelector"]["matchLabels"]
        for rule in only(base(), "NetworkPolicy")["spec"]["ingress"]
        for peer in rule["from"]
        if "podSelector" in peer
    )
    assert trainers.items() <= TRAINER["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("workload", [SERVERS, TRAINER], ids=["servers", "trainer"])
def test_a_pod_may_do_next_to_nothing(workload: Object) -> None:
    """As the level "restricted" of Kubernetes' Pod Security Standards demands, and a root that is read only."""
    of_pod, of_container = pod(workload)["securityContext"], container(workload)["securityContext"]
    assert of_pod["runAsNonRoot"] is True and of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert str(of_pod["runAsUser"]) == image_says("USER")[-1]
    assert of_container["allowPrivilegeEscalation"] is False and of_container["capabilities"] == {"drop": ["ALL"]}
    assert of_container["readOnlyRootFilesystem"] is True
    assert pod(workload)["automountServiceAccountToken"] is False
    volumes = [next(iter(set(volume) - {"name"})) for volume in pod(workload)["volumes"]]
    assert set(volumes) <= {"secret", "emptyDir"}
    assert set(container(workload)["resources"]) == {"requests", "limits"}


def test_what_a_server_writes_to_can_be_written_to() -> None:
    volumes = mounted(SERVERS)
    written = [variables(SERVERS)[f"{VARIABLE_PREFIX}UNIX_SOCKET"], "/tmp/x"]  # its own socket, and that of gRPC
    for path in written:
        assert "emptyDir" in volumes[os.path.dirname(path)]
    assert volumes["/dev/shm"]["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize(
    ("workload", "names"),
    [
        (SERVERS, ["SERVE_SERVER_CERTIFICATE", "SERVE_SERVER_PRIVATE_KEY", "SERVE_ROOT_CERTIFICATE"]),
        (TRAINER, ["CLIENT_CERTIFICATE", "CLIENT_PRIVATE_KEY", "ROOT_CERTIFICATE"]),
    ],
    ids=["servers", "trainer"],
)
def test_every_credential_is_one_of_its_secret(workload: Object, names: list[str]) -> None:
    volume = mounted(workload)["/certificates"]
    files = files_of(volume)
    keys = []
    for name in names:
        folder, file = os.path.split(variables(workload)[f"REMOTE_GYM_{name}"])
        assert folder == "/certificates"
        keys.append(files[file])
    assert keys == ["tls.crt", "tls.key", "ca.crt"] and len(files) == 3, "what cert-manager writes"
    usages = certificate(volume["secret"]["secretName"])["spec"]["usages"]
    assert usages == ["server auth" if workload is SERVERS else "client auth"]
    assert volume["secret"]["defaultMode"] == 0o440  # of root, and of the group that is fsGroup
    assert pod(workload)["securityContext"]["fsGroup"] == pod(workload)["securityContext"]["runAsGroup"]


def test_one_authority_has_signed_both() -> None:
    leaves = [certificate(f"remote-gym-{name}")["spec"] for name in ("server", "trainer")]
    (issuer,) = {leaf["issuerRef"]["name"] for leaf in leaves}
    authority = only(base(), "Issuer", issuer)["spec"]["ca"]["secretName"]
    of_authority = certificate(authority)["spec"]
    assert of_authority["isCA"] is True and of_authority["privateKey"]["rotationPolicy"] == "Never"
    assert only(base(), "Issuer", of_authority["issuerRef"]["name"])["spec"] == {"selfSigned": {}}
    assert not any(leaf.get("isCA") for leaf in leaves)


def test_the_trainer_dials_the_service_by_the_name_on_the_certificate() -> None:
    script = command(TRAINER)[-1]
    compile(script, "trainer", "exec")
    (url,) = re.findall(r'"(dns:[^"]+)"', script)
    source = source_of(url, None)
    assert isinstance(source, Records)
    assert source.name == f"dns:{SERVICE['metadata']['name']}:{PORT}"
    assert [source.tls_name] == certificate("remote-gym-server")["spec"]["dnsNames"]
    assert SERVICE["spec"]["clusterIP"] == "None"


def test_the_autoscaler_scales_what_there_is_by_a_metric_that_there_is() -> None:
    scaler = only(load(AUTOSCALING / "autoscaler.yaml"), "HorizontalPodAutoscaler")["spec"]
    target = {key: scaler["scaleTargetRef"][key] for key in ("apiVersion", "kind")}
    assert target == {key: SERVERS[key] for key in ("apiVersion", "kind")}
    assert scaler["scaleTargetRef"]["name"] == SERVERS["metadata"]["name"]
    (metric,) = (one["pods"]["metric"]["name"] for one in scaler["metrics"])
    assert metric.removeprefix("remote_gym_") in GAUGES
    (adapter,) = load(AUTOSCALING / "adapter-values.yaml")
    (rule,) = adapter["rules"]["custom"]
    assert rule["seriesQuery"].partition("{")[0] == metric
    (kustomization,) = load(AUTOSCALING / "kustomization.yaml")
    (patch,) = kustomization["patches"]
    assert patch["target"] == {"kind": SERVERS["kind"], "name": SERVERS["metadata"]["name"]}
    assert yaml.safe_load(patch["patch"]) == [{"op": "remove", "path": "/spec/replicas"}]


def test_values_are_described_and_checked() -> None:
    lines = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
    (values,) = load(CHART / "values.yaml")
    (schema,) = load(CHART / "values.schema.json")
    assert set(values) == set(schema["properties"]) - {"global"} and schema["additionalProperties"] is False
    used = set()
    for path in (CHART / "templates").iterdir():
        used |= set(re.findall(r"\.Values\.(\w+)", path.read_text(encoding="utf-8")))
    assert used == set(values)
    assert sum(line.lstrip().startswith("#") for line in lines) > 12


def test_the_chart_is_of_this_version() -> None:
    from remote_gym import __version__

    (chart,) = load(CHART / "Chart.yaml")
    assert chart["appVersion"] == __version__ and chart["name"] == CHART.name


def test_nothing_is_said_twice_differently() -> None:
    """The names that all files share."""
    named: dict[str, Any] = {
        one["kind"]: one["metadata"]["name"] for one in base() if one["kind"] not in ("Certificate", "Issuer")
    }
    assert set(named.values()) == {"remote-gym"}
