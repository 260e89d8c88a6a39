"""What Kustomize and Helm make of `deploy`: the same, and what Kubernetes and cert-manager take.

By the real `kubectl kustomize`, `helm lint` and `helm template`, and the schemas of several versions of Kubernetes:
``tox run -e manifests`` installs all of them. Nothing here talks to a cluster.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from deploy.manifests import (
    AUTOSCALING,
    CHART,
    KUBERNETES,
    Object,
    charted,
    container,
    kustomized,
    load,
    only,
    run,
    templated,
    variables,
    yaml,
)

VERSIONS = ("1.29", "1.32", "1.37")
"""Of Kubernetes: the oldest that anybody still supports for money, and newer ones."""

OF_HELM = {"app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "helm.sh/chart"}
"""Labels that a chart has and a base has not."""


def check(one: Object, version: str) -> None:
    """Fail unless that version of Kubernetes knows the kind, and every field in it."""
    if one["apiVersion"].startswith("cert-manager.io/"):
        models = pytest.importorskip("cloudcoil.models.cert_manager.v1")
        seen = getattr(models, one["kind"]).model_validate(one)
        assert seen.model_dump(by_alias=True, exclude_unset=True, mode="json") == one, "it knows every field"
    else:
        pytest.importorskip("kubernetes_validate").validate(one, version, strict=True)


def overlay(folder: Path) -> Path:
    """Write an overlay as docs/how-to/kubernetes.md has it."""
    page = (KUBERNETES.parents[1] / "docs" / "how-to" / "kubernetes.md").read_text(encoding="utf-8")
    (text,) = [block for block in page.split("```") if "# kustomization.yaml" in block]
    (checkout := folder / "remote-gym" / "deploy").mkdir(parents=True)
    (checkout / "kubernetes").symlink_to(KUBERNETES)
    (farm := folder / "farm").mkdir()
    (farm / "kustomization.yaml").write_text(text.removeprefix("text\n"))
    return farm


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(version: str, tmp_path: Path) -> None:
    objects = [*kustomized(KUBERNETES), *kustomized(overlay(tmp_path)), *load(KUBERNETES / "trainer.yaml"), *charted()]
    assert len(objects) > 25
    for one in objects:
        check(one, version)


@pytest.mark.parametrize(
    ("kind", "harm"),
    [
        ("Deployment", lambda one: one["spec"]["template"]["spec"].update(terminationGracePeriodSecond=1)),
        ("Service", lambda one: one["spec"].update(clusterIP=5)),
        ("Certificate", lambda one: one["spec"].update(dnsName=["remote-gym"])),
    ],
)
def test_what_is_wrong_is_seen(kind: str, harm: Any) -> None:
    one = next(one for one in kustomized(KUBERNETES) if one["kind"] == kind)
    check(one, VERSIONS[-1])
    harm(one)
    with pytest.raises(Exception, match=r"terminationGracePeriodSecond|5 is not of type|every field"):
        check(one, VERSIONS[-1])


def test_the_overlay_changes_what_it_says(tmp_path: Path) -> None:
    objects = kustomized(overlay(tmp_path))
    servers = only(objects, "Deployment")
    assert "replicas" not in servers["spec"]
    assert container(servers)["image"] == "registry.example/my-env:3"
    assert container(servers)["args"] == ["/environments/environment.py"]
    assert {one["metadata"]["namespace"] for one in objects} == {"rl"}
    assert only(objects, "HorizontalPodAutoscaler")["metadata"]["name"] == "remote-gym"
    assert only(objects, "HorizontalPodAutoscaler") in [
        {**one, "metadata": {**one["metadata"], "namespace": "rl", "labels": {"app.kubernetes.io/name": "remote-gym"}}}
        for one in load(AUTOSCALING / "autoscaler.yaml")
    ]


def bare(found: Any) -> Any:
    """Return it without Helm's own labels."""
    if isinstance(found, dict):
        return {key: bare(value) for key, value in found.items() if key not in OF_HELM}
    return [bare(one) for one in found] if isinstance(found, list) else found


def by_name(objects: list[Object]) -> dict[tuple[str, str], Object]:
    return {(one["kind"], one["metadata"]["name"]): bare(one) for one in objects}


def test_the_chart_is_the_base() -> None:
    assert by_name(charted()) == by_name(kustomized(KUBERNETES))


def test_with_an_autoscaler_too() -> None:
    chart = by_name(charted({"autoscaling.create": True}))
    expected = load(AUTOSCALING / "autoscaler.yaml")[0]
    expected["metadata"]["labels"] = {"app.kubernetes.io/name": "remote-gym"}
    assert chart["HorizontalPodAutoscaler", "remote-gym"] == expected
    assert "replicas" not in chart["Deployment", "remote-gym"]["spec"]


def test_helm_has_nothing_to_say_against_it() -> None:
    done = run("helm", "lint", "--strict", CHART)
    assert done.returncode == 0 and "0 chart(s) failed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    "values",
    [
        {
            "certificates.issuer": {"create": False, "name": "ours", "kind": "ClusterIssuer"},
            "certificates.clients": ["a", "b"],
        },
        {"certificates.create": False, "networkPolicy.create": False, "podDisruptionBudget.create": False},
        {"settings": {"max_envs": 512, "lease_seconds": 1.5, "sandbox": True, "num_workers": 4, "allow_call": "a,b"}},
        {
            "image": {"repository": "registry.example/e", "tag": "3", "pullPolicy": "Always"},
            "imagePullSecrets": [{"name": "x"}],
        },
        {
            "nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}], "podAnnotations": {},
            "affinity": {"podAntiAffinity": {}}, "env": [{"name": "MUJOCO_GL", "value": "egl"}],
            "resources": {"limits": {"cpu": 2, "memory": "1Gi"}},
        },
    ],
)  # fmt: skip
def test_other_values_make_what_kubernetes_takes(values: dict[str, Any]) -> None:
    objects = charted(values, release="mine")
    for one in objects:
        check(one, VERSIONS[-1])
        assert one["metadata"]["name"].startswith("mine")
    said = variables(only(objects, "Deployment"))
    if "settings" in values:
        given = {name: said[f"REMOTE_GYM_SERVE_{name.upper()}"] for name in values["settings"]}
        assert given == {
            "max_envs": "512", "lease_seconds": "1.5", "sandbox": "true", "num_workers": "4", "allow_call": "a,b",
        }  # fmt: skip
    if "image" in values:
        assert (
            only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/e:3"
        )
    if values.get("certificates.create", True):
        own = [one["spec"]["issuerRef"] for one in objects if one["kind"] == "Certificate"]
        if "certificates.issuer" in values:
            assert own == [{"name": "ours", "kind": "ClusterIssuer"}] * 3
    else:
        assert {one["kind"] for one in objects} == {"Deployment", "Service"}


def test_the_line_of_the_page_works() -> None:
    page = (CHART.parents[2] / "docs" / "how-to" / "kubernetes.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^helm install (remote-gym .*)$", page.replace("\\\n", ""), re.MULTILINE)
    release, chart, *flags = shlex.split(line)
    assert chart == CHART.relative_to(CHART.parents[2]).as_posix()
    done = run("helm", "template", release, CHART, *(flag for flag in flags if flag != "--create-namespace"))
    assert done.returncode == 0, done.stderr
    servers = only([one for one in yaml.safe_load_all(done.stdout) if one], "Deployment")
    assert container(servers)["image"] == "registry.example/my-env:3"
    assert container(servers)["args"] == ["/environments/environment.py"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replica": 3}, "replica"), ({"replicas": 0}, "replicas"), ({"entrypoint": ""}, "entrypoint"),
        ({"graceSeconds": 120}, "killed while they drain"), ({"handoverSeconds": 400}, "killed while they drain"),
        ({"settings": {"maxEnvs": 1}}, "maxEnvs"),
        ({"certificates.issuer": {"create": False, "name": ""}}, "issuer"), ({"resources.limits": None}, "limits"),
        ({"certificates.clients": ["A b"]}, "clients"),
        ({"certificates.clients": ["server"]}, "clients"), ({"shmSize": "much"}, "shmSize"),
        ({"networkPolicy.clientLabels": "x"}, "clientLabels"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_by_name(values: dict[str, Any], said: str) -> None:
    done = templated(values)
    assert done.returncode != 0 and said in done.stderr, done.stdout
