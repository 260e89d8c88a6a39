"""What `deploy/` and the sdist say is so: files that exist, settings that are settings, a server that serves with them.

The image itself is built and served where an engine is named: ``tox run -e image``.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from conftest import Certificates, ServeProcess

from remote_gym import RemoteVectorEnv
from remote_gym.cli.options import BY_NAME, VARIABLE_PREFIX

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
UNIT = ROOT / "deploy" / "systemd" / "remote-gym.service"
SERVE_ENV = ROOT / "deploy" / "systemd" / "serve.env"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

DOCKER_STOP_SECONDS = 10
"""After which `docker stop` kills."""

ENGINE = os.environ.get("REMOTE_GYM_TEST_ENGINE")
"""`docker` or `podman`."""

ServeFactory = Callable[..., ServeProcess]


# The image


def instructions() -> list[tuple[str, str]]:
    """Return what the Dockerfile says, in order: an instruction and the rest of its line."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    assert not [line for line in lines if line.endswith("\\")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def said(instruction: str) -> list[str]:
    return [rest for name, rest in instructions() if name == instruction]


def image_variables() -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in said("ENV") for pair in rest.split())  # type: ignore[misc]


def image_settings() -> dict[str, str]:
    return {name: value for name, value in image_variables().items() if name.startswith(VARIABLE_PREFIX)}


def command(instruction: str) -> list[str]:
    (rest,) = said(instruction)
    found: list[str] = json.loads(rest[rest.index("[") :])
    return found


def health_check() -> list[str]:
    (rest,) = said("HEALTHCHECK")
    assert " CMD [" in rest
    return command("HEALTHCHECK")


def copied() -> set[str]:
    """Return what comes from the checkout."""
    return {source for rest in said("COPY") if not rest.startswith("--") for source in rest.split()[:-1]}


def test_what_is_copied_exists_and_is_all_that_is_sent() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied()
    assert all((ROOT / source).exists() for source in copied())
    project = PROJECT["project"]
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert copied() == {"pyproject.toml", project["readme"], *project["license-files"], *wheel["packages"]}


def test_the_extras_that_are_installed_exist() -> None:
    (extras,) = re.findall(r'pip install [^"]*"/source\[([\w,]+)\]"', "\n".join(said("RUN")))
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    assert "server" in extras.split(",")  # its health service


def test_the_image_runs_as_an_ordinary_user() -> None:
    names = [name for name, _ in instructions()]
    last_stage = instructions()[len(names) - 1 - names[::-1].index("FROM") :]
    users = [rest for name, rest in last_stage if name == "USER"]
    assert users and all(re.fullmatch(r"[1-9]\d*", user) for user in users)
    assert any(re.search(rf"\buseradd --uid {users[-1]} ", rest) for name, rest in last_stage if name == "RUN")


def test_the_image_drains_before_it_is_killed() -> None:
    assert 0 < float(image_settings()[f"{VARIABLE_PREFIX}GRACE_SECONDS"]) < DOCKER_STOP_SECONDS


def test_the_port_of_the_image_is_that_of_a_server() -> None:
    (port,) = said("EXPOSE")
    assert port in str(BY_NAME["port"].default)
    assert f"{VARIABLE_PREFIX}PORT" not in image_settings()


# The unit


def unit() -> dict[str, dict[str, list[str]]]:
    """Return sections, keys and all their values."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return sections


def unit_settings(credentials: str = "%d") -> dict[str, str]:
    pairs = dict(value.split("=", 1) for value in unit()["Service"]["Environment"])  # type: ignore[misc]
    assert all(name.startswith(VARIABLE_PREFIX) for name in pairs)
    return {name: value.replace("%d", credentials) for name, value in pairs.items()}


def unit_program() -> list[str]:
    (line,) = unit()["Service"]["ExecStart"]
    return shlex.split(line)


def serve_env() -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string("[all]\n" + SERVE_ENV.read_text())
    return dict(parser["all"])


def test_the_unit_is_handed_every_credential_that_it_names() -> None:
    named = {value.removeprefix("%d/") for value in unit_settings().values() if value.startswith("%d/")}
    loaded = dict(value.split(":", 1) for value in unit()["Service"]["LoadCredential"])  # type: ignore[misc]
    assert named == set(loaded) == {"server.pem", "server-key.pem", "ca.pem"}
    page = (ROOT / "docs" / "how-to" / "deploy.md").read_text()
    (installed,) = re.findall(r"^install -m 600 (.*) /etc/remote-gym/$", page, re.MULTILINE)
    files = {f"/etc/remote-gym/{Path(path).name}" for path in installed.split()}
    assert files == {*loaded.values(), *unit()["Service"]["EnvironmentFile"]}


def test_systemd_waits_longer_than_a_drain_takes() -> None:
    (seconds,) = unit()["Service"]["TimeoutStopSec"]
    grace = BY_NAME["grace_seconds"].default
    assert float(seconds) > float(grace)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.split()[1]) < 250:
        pytest.skip(f"{version.splitlines()[0]} is older than the unit's %d")
    program = unit_program()[0]
    there = tmp_path / UNIT.name
    there.write_text(UNIT.read_text().replace(program, sys.executable))  # it must exist
    done = subprocess.run(["systemd-analyze", "verify", there], capture_output=True, text=True, timeout=60.0)
    about_this = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert not about_this
    assert done.returncode == 0
    security = ["systemd-analyze", "security", "--offline=true", "--threshold=25", there]  # of 100; 20 when written
    assert subprocess.run(security, capture_output=True, timeout=60.0).returncode == 0


# Both


def image_as_a_process(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return what is said after `remote-gym serve`, and the variables, with paths that exist here."""
    assert command("ENTRYPOINT") == ["remote-gym", "serve"]
    paths = {"/certificates": str(folder), "/dev/shm": str(folder)}
    variables = {}
    for name, value in image_settings().items():
        for theirs, ours in paths.items():
            value = value.replace(theirs, ours)
        variables[name] = value
    return command("CMD"), variables


def unit_as_a_process(folder: Path) -> tuple[list[str], dict[str, str]]:
    program, serve, *arguments = unit_program()
    assert (Path(program).name, serve) == ("remote-gym", "serve")
    return arguments, {**unit_settings(str(folder)), **serve_env()}


WAYS = pytest.mark.parametrize("as_a_process", [image_as_a_process, unit_as_a_process])
AsAProcess = Callable[[Path], tuple[list[str], dict[str, str]]]


@WAYS
def test_what_it_says_are_settings(as_a_process: AsAProcess, tmp_path: Path) -> None:
    arguments, variables = as_a_process(tmp_path)
    command = [sys.executable, "-m", "remote_gym", "serve", *arguments, "--show-settings"]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60.0)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(re.search(rf"# {name}$", done.stdout, re.MULTILINE) for name in variables)
    assert 'entrypoint = "CartPole-v1"' in done.stdout


def follows_the_local_ones(address: str, certificates: Certificates) -> bool:
    """Whether what listens there steps as the same environments do here, over mutual TLS."""
    paths = certificates.client_mutual
    local = gym.make_vec("CartPole-v1", num_envs=4, vectorization_mode="sync")
    remote = RemoteVectorEnv(address, num_envs=4, client_credentials_paths=paths)
    local.action_space.seed(3)
    try:
        seen = [(remote.reset(seed=3)[0], local.reset(seed=3)[0])]
        for _ in range(100):
            actions = local.action_space.sample()
            seen += zip(remote.step(actions)[:4], local.step(actions)[:4], strict=True)
        return all(np.array_equal(theirs, ours) for theirs, ours in seen)
    finally:
        remote.close()
        local.close()


@WAYS
def test_a_server_serves_with_these_settings(
    as_a_process: AsAProcess, certificates: Certificates, serve_process: ServeFactory
) -> None:
    arguments, variables = as_a_process(certificates.directory)
    entrypoint = (arguments or [variables[f"{VARIABLE_PREFIX}ENTRYPOINT"]])[0]
    served = serve_process(entrypoint, environment=variables)
    assert follows_the_local_ones(f"localhost:{served.address.rpartition(':')[2]}", certificates)
    served.process.terminate()
    assert served.process.wait(20.0) == 0


def test_the_health_check_finds_the_server(certificates: Certificates, serve_process: ServeFactory) -> None:
    (entrypoint,), variables = image_as_a_process(certificates.directory)
    program, *check = [part.replace("/dev/shm", str(certificates.directory)) for part in health_check()]
    assert program == "remote-gym"
    checking = [sys.executable, "-m", "remote_gym", *check]
    served = serve_process(entrypoint, environment=variables)
    healthy = subprocess.run(checking, capture_output=True, text=True, timeout=60.0)
    assert healthy.returncode == 0, healthy.stdout
    served.process.kill()
    served.process.wait()
    assert subprocess.run(checking, capture_output=True, timeout=60.0).returncode == 1
    Path(
        certificates.directory, "remote-gym.sock"
    ).unlink()  # who is killed leaves it, in the folder that all tests share


# In a container


@pytest.fixture
def container(certificates: Certificates, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Build the image, start it without anything that it may do without, and return its name and address."""
    assert ENGINE
    image, name = "remote-gym-test", f"remote-gym-test-{os.getpid()}"
    build = [ENGINE, "build", "--network", "host", "--file", DOCKERFILE, "--tag", image, ROOT]
    built = subprocess.run(build, capture_output=True, text=True, timeout=900.0)
    assert built.returncode == 0, built.stdout + built.stderr
    folder = tmp_path / "certificates"
    folder.mkdir(0o755)
    for file in certificates.server_mutual:
        shutil.copyfile(file, folder / file.name)
        (folder / file.name).chmod(0o644)  # the user of the image has another number than this one
    volume = f"{folder}:/certificates:ro"
    settings = ["--env", f"{VARIABLE_PREFIX}URL=127.0.0.1", "--env", f"{VARIABLE_PREFIX}PORT=0"]
    bare = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    run = [ENGINE, "run", "--rm", "--name", name, "--network", "host", *bare, "--volume", volume, *settings, image]
    process = subprocess.Popen(run, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("remote-gym ready on "), line
        yield name, line.rpartition(":")[2].strip()
        subprocess.run([ENGINE, "stop", name], capture_output=True, check=True, timeout=60.0)
        assert process.wait(60.0) == 0  # drained, not killed
    finally:
        subprocess.run([ENGINE, "rm", "--force", name], capture_output=True, timeout=60.0)
        process.wait(60.0)
        process.stdout.close()


@pytest.mark.timeout(1200)
@pytest.mark.skipif(not ENGINE, reason="no container engine is named by REMOTE_GYM_TEST_ENGINE")
def test_the_image_serves(container: tuple[str, str], certificates: Certificates) -> None:
    name, port = container
    assert follows_the_local_ones(f"localhost:{port}", certificates)
    assert ENGINE
    inside = [ENGINE, "exec", name]
    assert subprocess.run([*inside, *health_check()], capture_output=True, timeout=60.0).returncode == 0
    user = subprocess.run([*inside, "id", "-u"], capture_output=True, text=True, timeout=60.0)
    assert user.stdout.strip() == said("USER")[-1]


# The sdist


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout")
def test_the_sdist_has_all_that_the_checkout_has() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    always = {"pyproject.toml", ".gitignore"}  # Hatchling's own doing
    assert {path.split("/")[0] for path in listed.splitlines()} == {*included, *always}
