"""The scripts of `exploration`, as a user runs them: processes of their own, over two loopback addresses."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Certificates

from remote_gym.cli.certificates import write_certificates

EXPLORATION = Path(__file__).parents[2] / "exploration"
SERVER_IP = "127.0.0.2"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("certificates")
    write_certificates(directory, [SERVER_IP])
    return Certificates(directory)


@contextlib.contextmanager
def hosting(*flags: str | Path) -> Iterator[str]:
    """Run `start_remote_environment.py`; give its port."""
    command = [sys.executable, EXPLORATION / "start_remote_environment.py", "-p", "0", *flags]
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


def interact(port: str, *flags: str | Path, steps: int = 501) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXPLORATION / "start_environment_interaction.py", "-p", port, "--steps", steps, *flags]
    environment = {**os.environ, "SDL_VIDEODRIVER": "dummy"}
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment, timeout=90)


def server_flags(certificates: Certificates, mutual: bool) -> list[str | Path]:
    certificate, key = certificates.server
    flags = ["-u", SERVER_IP, "--server_certificate", certificate, "--server_private_key", key]
    return [*flags, "--root_certificate", certificates.directory / "ca.pem"] if mutual else flags


def client_flags(certificates: Certificates, mutual: bool) -> list[str | Path]:
    ca, certificate, key = certificates.client_mutual
    flags = ["-u", SERVER_IP, "--root_certificate", ca]
    return [*flags, "--client_certificate", certificate, "--client_private_key", key] if mutual else flags


def test_tls_without_client_authentication_and_rgb_array(certificates: Certificates) -> None:
    with hosting(*server_flags(certificates, mutual=False)) as port:
        done = interact(port, *client_flags(certificates, mutual=False), "--render_mode", "rgb_array")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^episode over at step \d+, return -?\d+\.0$", done.stdout, re.MULTILINE)
    assert "the last frame: (500, 500, 3) uint8" in done.stdout


def test_tls_with_client_authentication(certificates: Certificates) -> None:
    with hosting(*server_flags(certificates, mutual=True)) as port:
        stranger = interact(port, *client_flags(certificates, mutual=False))
        assert stranger.returncode != 0
        assert "requires a client certificate" in stranger.stderr
        done = interact(port, *client_flags(certificates, mutual=True))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d+ steps on <RemoteEnvironment\(Acrobot-v1, 127.0.0.\d:\d+\)>$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("server_render_mode", ["rgb_array", "human"])
def test_human_rendering_without_tls(server_render_mode: str) -> None:
    with hosting("--render_mode", server_render_mode) as port:
        done = interact(port, "--render_mode", "human", steps=10)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d+ steps on <RemoteEnvironment\(Acrobot-v1, 127.0.0.\d:\d+\)>$", done.stdout, re.MULTILINE)
