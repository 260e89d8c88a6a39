"""The scripts of `exploration`, as a user runs them: processes on what looks to them like two machines."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Certificates

from remote_gym.cli.certificates import write_certificates

EXPLORATION = Path(__file__).parents[3] / "exploration"


@dataclass(frozen=True)
class Machines:
    """Where server and client run: what goes before their commands, and the server's IP."""

    server_ip: str
    server_prefix: tuple[str, ...] = ()
    client_prefix: tuple[str, ...] = ()


LOOPBACK = Machines("127.0.0.2")
NETWORK = "198.18.6"  # of the block for tests between networks (RFC 2544); only ever inside the namespaces


@pytest.fixture
def loopback() -> Machines:
    return LOOPBACK


@pytest.fixture
def namespaces() -> Iterator[Machines]:
    """Two network namespaces with a cable between them; needs root and iproute2."""
    server, client = names = (f"rg{os.getpid()}s", f"rg{os.getpid()}c")
    commands = [
        f"ip netns add {server}",
        f"ip netns add {client}",
        f"ip -n {server} link add eth0 type veth peer name eth0 netns {client}",
        *(f"ip -n {name} addr add {NETWORK}.{host}/24 dev eth0" for host, name in enumerate(names, start=1)),
        *(f"ip -n {name} link set {device} up" for name in names for device in ("lo", "eth0")),
    ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    else:
        enter = ("ip", "netns", "exec")
        yield Machines(f"{NETWORK}.1", (*enter, server), (*enter, client))
    finally:
        for name in names:
            with contextlib.suppress(OSError):
                subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.fixture(params=["loopback", "namespaces"])
def machines(request: pytest.FixtureRequest) -> Machines:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("certificates")
    write_certificates(directory, [LOOPBACK.server_ip, f"{NETWORK}.1"])
    return Certificates(directory)


@contextlib.contextmanager
def hosting(*flags: str | Path, prefix: tuple[str, ...] = ()) -> Iterator[str]:
    """Run `start_remote_environment.py`; give its port."""
    command = [*prefix, sys.executable, EXPLORATION / "start_remote_environment.py", "-p", "0", *flags]
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            match = re.match(r"serving on \S+:(\d+);", ready)
            assert match, f"not ready: {ready!r}"
            yield match[1]
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()


def interact(
    port: str, *flags: str | Path, prefix: tuple[str, ...] = (), steps: int = 501
) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, EXPLORATION / "start_environment_interaction.py", "-p", port, "--steps", steps]
    return subprocess.run(
        [str(part) for part in (*command, *flags)],
        capture_output=True,
        text=True,
        env={**os.environ, "SDL_VIDEODRIVER": "dummy"},
        timeout=90,
    )


def server_flags(machines: Machines, certificates: Certificates, mutual: bool) -> list[str | Path]:
    certificate, key = certificates.server
    flags = ["-u", machines.server_ip, "--server_certificate", certificate, "--server_private_key", key]
    return [*flags, "--root_certificate", certificates.directory / "ca.pem"] if mutual else flags


def client_flags(machines: Machines, certificates: Certificates, mutual: bool) -> list[str | Path]:
    ca, certificate, key = certificates.client_mutual
    flags = ["-u", machines.server_ip, "--root_certificate", ca]
    return [*flags, "--client_certificate", certificate, "--client_private_key", key] if mutual else flags


def test_tls_without_client_authentication_and_rgb_array(machines: Machines, certificates: Certificates) -> None:
    with hosting(*server_flags(machines, certificates, mutual=False), prefix=machines.server_prefix) as port:
        flags = client_flags(machines, certificates, mutual=False)
        done = interact(port, *flags, "--render_mode", "rgb_array", prefix=machines.client_prefix)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^episode over at step \d+, return -?\d+\.0$", done.stdout, re.MULTILINE)
    assert "the last frame: (500, 500, 3) uint8" in done.stdout


def test_tls_with_client_authentication(machines: Machines, certificates: Certificates) -> None:
    with hosting(*server_flags(machines, certificates, mutual=True), prefix=machines.server_prefix) as port:
        stranger = interact(port, *client_flags(machines, certificates, mutual=False), prefix=machines.client_prefix)
        assert stranger.returncode != 0
        assert "requires a client certificate" in stranger.stderr
        done = interact(port, *client_flags(machines, certificates, mutual=True), prefix=machines.client_prefix)
    assert done.returncode == 0, done.stderr
    assert f"501 steps on <RemoteEnvironment(Acrobot-v1, {machines.server_ip}:{port})>" in done.stdout


@pytest.mark.parametrize("server_render_mode", ["rgb_array", "human"])
def test_human_rendering_without_tls(server_render_mode: str) -> None:
    with hosting("--render_mode", server_render_mode) as port:
        done = interact(port, "--render_mode", "human", steps=10)
    assert done.returncode == 0, done.stderr
    assert "10 steps on <RemoteEnvironment(Acrobot-v1, 127.0.0.1:" in done.stdout
